"""Guards of data: what an HDF5 file may hold, and what is checked before anyone learns from it."""

from __future__ import annotations

from faults.guards import guard

RULE = "faults/test_hostile.py::test_a_rule_says_what_it_refuses"
BAD, DAMAGED = "datasets/test_bad_files.py", "datasets/test_damaged_datasets.py"
DOCTOR = "datasets/test_doctor_and_card.py"
CHUNKS = f"{DAMAGED}::test_chunks_that_do_not_hold_what_they_declare"

HDF5, RULES, D4RL = "datasets/hdf5.py", "datasets/hdf5_rules.py", "datasets/d4rl.py"

guard("soft links", HDF5, "isinstance(link, h5py.HardLink)", "isinstance(link, h5py.HardLink | h5py.SoftLink)",
      f"{BAD}::test_links_are_refused")  # fmt: skip
guard("external links", HDF5, "isinstance(link, h5py.HardLink)", "isinstance(link, h5py.HardLink | h5py.ExternalLink)",
      f"{BAD}::test_links_are_refused")  # fmt: skip
guard("one object under two names", HDF5, "if address in names:", "if False:", f"{RULE}[hard link to another column]")
guard("names that can be read", HDF5, "if not isinstance(name, str) or not name.isprintable() or len(name) > 100:",
      "if False:", f"{RULE}[a name that clears the screen]")  # fmt: skip
guard(
    "number and depth of objects",
    HDF5,
    "if len(names) > MAX_OBJECTS or depth > MAX_DEPTH:",
    "if False:",
    f"{RULE}[more objects than anyone needs]",
)
guard("types that stand for arrays", HDF5, "            else:\n                raise DatasetError(f\"{where} is a "
      "{type(item).__name__}; expected arrays and groups. Leave it out.\")\n", "",
      f"{BAD}::test_a_named_type_is_refused")  # fmt: skip
guard(
    "signature at the very beginning",
    HDF5,
    "if start != SIGNATURE:",
    "if False:",
    f"{BAD}::test_missing_empty_foreign_and_truncated_files",
)
guard("regular files alone", HDF5, "system.open_at_once(path, os.O_RDONLY)", "os.open(path, os.O_RDONLY)",
      f"{DAMAGED}::test_a_pipe_is_not_waited_for")  # fmt: skip
guard("no plug-ins", HDF5, "        h5pl.remove(0)\n", "        pass\n",
      f"{DAMAGED}::test_plug_ins_are_off_while_a_file_is_open_and_on_again_after")  # fmt: skip
guard("what was opened is what is mapped", HDF5, 'h5py.File(system.name_of(handle, path), "r", locking=False)',
      'h5py.File(path, "r", locking=False)', f"{DAMAGED}::test_what_is_mapped_is_what_was_opened")  # fmt: skip
guard("memory that is missing is not the file's fault", HDF5, "errno.ENOMEM or", "0 and",
      "core/test_memory.py::test_a_file_is_not_blamed_for_memory_that_is_missing")  # fmt: skip

guard(
    "external storage", RULES, " or properties.get_external_count()", "", f"{BAD}::test_data_in_other_files_are_refused"
)
guard("virtual arrays", RULES, "properties.get_layout() == h5d.VIRTUAL or ", "",
      f"{BAD}::test_data_in_other_files_are_refused")  # fmt: skip
guard("arrays without a shape", RULES, "if array.shape is None:", "if False:", f"{RULE}[an array without a shape]")
guard("references and objects", RULES,
      "if dtype.hasobject and not (h5py.check_string_dtype(dtype) is not None and array.shape == ()):", "if False:",
      f"{BAD}::test_objects_are_refused")  # fmt: skip
guard(
    "plain types",
    RULES,
    "if not dtype.hasobject and not _plain(dtype, array.id.get_type()):",
    "if False:",
    f"{RULE}[compound]",
)
guard(
    "types as NumPy has them, bit by bit",
    RULES,
    "bool(h5t.py_create(dtype).equal(stored))",
    "True",
    f"{RULE}[floats with another exponent]",
)
guard("filters of others", RULES, "if unknown := [number for number in numbers if number not in FILTERS]:",
      "if unknown := []:", f"{RULE}[a filter with a number that nobody has]")  # fmt: skip
guard("compression within compression", RULES,
      "if len(set(numbers)) < len(numbers) or {h5z.FILTER_DEFLATE, LZF} <= set(numbers):", "if False:",
      f"{RULE}[gzip in gzip]")  # fmt: skip
guard("chunks of LZF", RULES, "if number == LZF and max(", "if number < 0 and max(",
      f"{DAMAGED}::test_large_chunks_of_lzf_are_refused")  # fmt: skip
guard("sizes that a file cannot hold", RULES, "if contiguous > held:", "if False:",
      f"{BAD}::test_sizes_that_the_file_does_not_hold_are_refused")  # fmt: skip
guard("compressed bombs", RULES, "if unpacked > max(FREE_EXPANSION_BYTES, MAX_EXPANSION * held):", "if False:",
      f"{BAD}::test_sizes_that_the_file_does_not_hold_are_refused")  # fmt: skip
guard(
    "arrays that were never written",
    RULES,
    "if offset is None or offset + size > held:",
    "if False:",
    f"{RULE}[declared and never written]",
)
guard(
    "number of chunks", RULES, "if grid > MAX_CHUNKS:", "if False:", f"{DAMAGED}::test_too_many_chunks_are_not_counted"
)
guard(
    "chunks that are missing",
    RULES,
    "if len(chunks) != grid:",
    "if False:",
    f"{RULE}[a chunk of which most is missing]",
)
guard("chunks larger than declared", RULES, "if chunk.size > limit + CHUNK_OVERHEAD or chunk.byte_offset is None or "
      "chunk.byte_offset + chunk.size > held:", "if False:", CHUNKS)  # fmt: skip
guard("chunks that unpack to more than declared", RULES, "if packed and large and not", "if False and not", CHUNKS)

guard("flags are 0 or 1", "datasets/columns.py", "if len(wrong):", "if False:", f"{BAD}::test_a_flag_is_0_or_1")
guard("types of columns", "datasets/columns.py", 'if values.dtype.kind not in "fiub":', "if False:",
      f"{BAD}::test_wrong_ranks_and_lengths")  # fmt: skip
guard("lengths of columns", D4RL, "if rows != steps:", "if False:", f"{BAD}::test_wrong_ranks_and_lengths")
guard("checksum of what is beside the columns", D4RL, "if bytes(others[CHECKSUM]) != checksum_of(found).encode():",
      "if False:", f"{DAMAGED}::test_a_changed_byte_beside_the_columns_is_refused_on_opening")  # fmt: skip
guard("another recording in the place of one", D4RL,
      'if isinstance(asked, dict) and asked.get("fingerprint", stored) != stored:', "if False:",
      f"{DAMAGED}::test_another_recording_in_the_place_of_ours_is_an_error")  # fmt: skip
guard("stored ends are held against the flags", D4RL,
      "if ends is not None and not boundaries.trusted_ends(ends, terminations, timeouts):", "if False:",
      "datasets/test_foreign_files.py::test_stored_ends_that_do_not_fit_are_not_used")  # fmt: skip
guard("fingerprint of the columns", "datasets/doctor.py",
      "if dataset.stored_fingerprint is not None and dataset.stored_fingerprint != dataset.fingerprint():", "if False:",
      f"{DOCTOR}::test_edited_columns_are_found")  # fmt: skip
guard("fingerprint before a copy", "datasets/fingerprint.py",
      "if dataset.stored_fingerprint not in (None, dataset.fingerprint()):", "if False:",
      f"{DAMAGED}::test_a_changed_byte_in_a_column_is_an_error_of_the_dataset")  # fmt: skip
guard("finite columns", "datasets/doctor.py", 'elif values.dtype.kind == "f":', "elif False:",
      f"{BAD}::test_values_that_are_not_finite_are_named")  # fmt: skip
guard("bytes of flags", "datasets/doctor.py", "if values.dtype == bool:", "if False:",
      f"{DOCTOR}::test_damaged_flag_bytes_are_found")  # fmt: skip
guard("ends where the flags are", "datasets/doctor_episodes.py", "    if len(wrong):\n", "    if False:\n",
      f"{DOCTOR}::test_errors")  # fmt: skip
guard("actions within the range", "datasets/doctor_values.py",
      "(taken[rows] < least - slack) | (taken[rows] > most + slack)", "taken[rows] != taken[rows]",
      f"{DOCTOR}::test_errors")  # fmt: skip
guard("training refuses what the doctor finds", "facade/source.py", "        refuse_unfit(data, spec)\n", "",
      "training/test_sequence_runs.py::test_data_that_are_not_finite_are_refused")  # fmt: skip
guard("lengths of Minari's columns", "datasets/minari_episodes.py", "if len(getattr(episode, key)) != steps:",
      "if False:",
      "datasets/test_minari_files.py::test_columns_of_another_length_name_their_episode")  # fmt: skip
guard("code that Minari would import", "datasets/minari.py", "        _check_spaces(minari, dataset_id)\n", "",
      "datasets/test_minari_files.py::test_a_dataset_that_wants_code_imported_is_refused")  # fmt: skip
guard("chunks are decoded apart", "datasets/hdf5.py", "yield arrays | decoded(arrays, path)", "yield arrays",
      "datasets/test_hdf5_decoding.py::test_a_crash_of_the_library_is_an_error_of_the_data")  # fmt: skip
guard("decoding ends", "datasets/hdf5_decoding.py", "    signal.alarm(seconds)\n", "",
      "datasets/test_hdf5_decoding.py::test_decoding_without_end_is_an_error_of_the_data")  # fmt: skip
