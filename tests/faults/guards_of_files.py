"""Guards of files: how they are written, what is checked when they are read, and who may work on a folder."""

from __future__ import annotations

from faults.guards import guard

OPERATIONS = "faults/test_faults.py::test_every_fault_is_met[file operations: each of a save in turn]"
SEALED = "core/test_sealed_files.py"
NO_JSON = f"{SEALED}::test_json_that_is_none"
LINES = f"{SEALED}::test_lines_that_are_not_as_they_were_written_are_refused"
SAVED = "training/test_checkpoints.py"
DAMAGED = "training/test_damaged_runs.py"
RUNS = "training/test_sequence_runs.py"
WRITTEN = "datasets/test_d4rl_files.py"

FILES, SYSTEM, JSON = "core/files.py", "core/system.py", "core/strict_json.py"
CHECKPOINTS, RUN = "training/checkpoints.py", "training/run_folder.py"

guard("fsync of a file before its rename", FILES, "            flush(temporary)\n", "", OPERATIONS)
guard("fsync of a folder after a rename", FILES, "            flush(path.parent)\n", "", OPERATIONS)
guard("fsync of a folder that was made", FILES, "        flush(folder.parent)\n", "", OPERATIONS)
guard("fsync itself", SYSTEM, "        os.fsync(handle)\n", "        pass\n", OPERATIONS)
guard("fsync after a checkpoint is in place", CHECKPOINTS, "        flush(folder)\n", "", OPERATIONS)
guard("fsync of events before a checkpoint counts them", RUN, "        self._flush_events()\n", "",
      f"{DAMAGED}::test_events_are_on_the_disk_before_a_checkpoint_counts_them")  # fmt: skip
guard("files are written beside their place", FILES, "            yield temporary\n            flush(temporary)\n"
      "            handle = system.let_go_to_rename(handle)\n            system.replace(temporary, path)\n",
      "            yield path\n            flush(path)\n",
      f"{WRITTEN}::test_a_failed_write_leaves_what_was_there", OPERATIONS)  # fmt: skip
guard("temporary files go", SYSTEM, "path.unlink(missing_ok=True)", "pass",
      f"{WRITTEN}::test_a_failed_write_leaves_what_was_there")  # fmt: skip
guard("errors of the disk are told as such", FILES,
      "    except OSError as error:\n        if error.errno == errno.EFBIG",
      "    except ZeroDivisionError as error:\n        if error.errno == errno.EFBIG",
      f"{SEALED}::test_every_error_of_the_disk_is_named_with_its_path")  # fmt: skip
guard("one process in a folder", "core/locks.py", "system.lock(handle, wait=False)", "True",
      f"{RUNS}::test_a_folder_in_use_is_refused")  # fmt: skip
guard("one process at a recording", "cli/collect.py", "        with output_lock(self.out):\n", "        if True:\n",
      "cli/test_cli_locks.py::test_a_recording_is_made_by_one_at_a_time")  # fmt: skip
guard("who may read a file", SYSTEM, "os.O_RDWR | os.O_CREAT | os.O_EXCL | _BYTES, 0o666",
      "os.O_RDWR | os.O_CREAT | os.O_EXCL | _BYTES, 0o600",
      "core/test_writing.py::test_who_may_read_a_file_is_the_users_to_say")  # fmt: skip

guard("no NaN in JSON that is written", FILES, "json.dumps(value, indent=2, allow_nan=False)",
      "json.dumps(value, indent=2)", f"{SEALED}::test_json_that_is_written_is_finite")  # fmt: skip
guard("no NaN in JSON", JSON, "parse_constant=_refuse_constant, ", "", NO_JSON)
guard("no numbers beyond float64 in JSON", JSON, "parse_float=_finite, ", "", NO_JSON)
guard("no key twice in JSON", JSON, ", object_pairs_hook=_unique_keys", "", NO_JSON)
guard("JSON nested without end", JSON, "except RecursionError:", "except ZeroDivisionError:", NO_JSON)
guard("half characters in JSON", JSON, 'if "\\\\ud" in text.lower():', "if False:", NO_JSON)
guard("size of JSON text", JSON, "if len(text) > MAX_JSON_BYTES:", "if False:", NO_JSON)
guard("size of JSON files", FILES, "if path.stat().st_size > MAX_JSON_BYTES:", "if False:",
      f"{SEALED}::test_json_that_is_too_large_is_not_read")  # fmt: skip
PIPES = f"{SEALED}::test_a_pipe_is_not_waited_for", "datasets/test_damaged_datasets.py::test_a_pipe_is_not_waited_for"
guard("pipes are not waited for", SYSTEM, 'flags | getattr(os, "O_NONBLOCK", 0)', "flags", *PIPES)
guard("pipes are not waited for by JSON", FILES, "opener=system.open_at_once", "opener=os.open", PIPES[0])
guard("checksum of JSON", FILES, "if not holds(found):", "if False:",
      f"{DAMAGED}::test_a_changed_digit_of_the_configuration_is_refused")  # fmt: skip
guard("checksum of lines", "core/checksums.py", "if not holds(record, owner, number, total if whole else None):",
      "if False:", LINES)  # fmt: skip
guard("number of a line in its checksum", "core/checksums.py",
      "        if not holds(record, owner, number, total if whole else None):",
      "        if not any(holds(record, owner, n, t) for n in range(99) for t in (total, None)):", LINES)  # fmt: skip
guard("lines without a checksum among sealed ones", "core/checksums.py",
      "if not any(_KEY in line or _ENDING.search(line) for line in lines):",
      "if not all(_KEY in line for line in lines):", LINES)  # fmt: skip
guard("a damaged last line is not a torn one", FILES, "if not records or not _cut_short(tail):", "if False:", LINES)

guard("no weights that are not finite", CHECKPOINTS,
      "if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):", "if False:",
      f"{SAVED}::test_values_that_are_not_finite_are_refused")  # fmt: skip
guard("checksum of tensors", CHECKPOINTS, "if digest != _digest(tensors, whose):", "if False:",
      f"{DAMAGED}::test_tensors_know_their_owner_and_every_byte")  # fmt: skip
guard("owner of tensors", CHECKPOINTS, "if owner is not None and whose != owner:", "if False:",
      f"{DAMAGED}::test_a_file_of_another_run_is_refused", f"{DAMAGED}::test_tensors_know_their_owner_and_every_byte",
)  # fmt: skip
guard("manifest against tensors", CHECKPOINTS, 'if sha256_of(path / _TENSORS) != manifest["sha256"]:', "if False:",
      f"{DAMAGED}::test_whole_tensors_of_another_checkpoint_are_noticed")  # fmt: skip
guard("place of a checkpoint", CHECKPOINTS, "if path.name != f\"update-{manifest.get('update', -1):012d}\":",
      "if False:", f"{DAMAGED}::test_checkpoints_of_another_run_and_in_another_place_are_passed_over")  # fmt: skip
guard("owner of a checkpoint", CHECKPOINTS, "if manifest.get(name) != value:", "if False:",
      f"{DAMAGED}::test_checkpoints_of_another_run_and_in_another_place_are_passed_over")  # fmt: skip
guard("an older checkpoint in place of a damaged one", CHECKPOINTS, "            problems.append(str(error))\n",
      "            raise\n", f"{SAVED}::test_a_damaged_newest_gives_way_to_an_older_one")  # fmt: skip
guard("a good checkpoint is not replaced", CHECKPOINTS, "if final.exists() and _verifies_as(final, sha256):",
      "if False:", f"{DAMAGED}::test_saving_again_leaves_what_is_good_and_replaces_what_is_not")  # fmt: skip
guard("later checkpoints do not push out good ones", CHECKPOINTS, " if path.name < newest]", "]",
      f"{DAMAGED}::test_damaged_later_checkpoints_do_not_push_out_good_ones")  # fmt: skip
guard("a checkpoint is read back before others go", CHECKPOINTS, "    _verified(final)\n", "",
      f"{DAMAGED}::test_a_checkpoint_that_does_not_read_back_lets_none_go")  # fmt: skip

guard("another configuration is refused", RUN, "            self._check_same(existing)\n", "",
      f"{RUNS}::test_a_folder_of_another_configuration_is_left_untouched")  # fmt: skip
guard("a folder of something else is refused", RUN,
      'elif any(entry.name != ".lock" and entry not in left for entry in self._entries()):', "elif False:",
      f"{RUNS}::test_a_folder_that_is_no_run_is_left_untouched")  # fmt: skip
guard("events that a checkpoint counted", RUN, "if len(self._events) < counted:", "if False:",
      f"{RUNS}::test_a_checkpoint_without_its_events_is_refused")  # fmt: skip
guard("weights are verified before a run counts as finished", RUN,
      "weights.exists() and bool(load_tensors(weights, self._checksum))", "weights.exists()",
      f"{DAMAGED}::test_damaged_weights_do_not_count_as_finished")  # fmt: skip
guard("old checkpoints that a dead start left go", RUN,
      '        let_go(self.path / "checkpoints", self._continued_at)  # a start may have died before it could\n', "",
      f"{DAMAGED}::test_a_start_that_died_before_it_let_go_of_an_old_checkpoint_leaves_it_to_the_next")  # fmt: skip
guard("what a start left that died over its configuration", RUN, "entry.unlink(missing_ok=True)", "entry.unlink()",
      f"{DAMAGED}::test_what_a_start_left_that_died_in_the_middle_of_a_file_is_taken_away")  # fmt: skip
guard("a lock is that of the file that is there", "core/locks.py", "if _identity(handle) == _identity(path):",
      "if True:", "core/test_writing.py::test_a_lock_file_that_was_removed_meanwhile_is_not_held")  # fmt: skip
guard("a second start hears it before it loads PyTorch", "cli/train.py",
      "with early_lock(self.out) if here.count == 1 else nullcontext():", "with nullcontext():",
      "cli/test_cli_locks.py::test_the_second_is_refused_before_torch_is_loaded")  # fmt: skip
guard("room for the datasets of an experiment", "cli/experiment_run.py",
      '            require_room(self.folder, self._missing_bytes(), "datasets")\n', "",
      "cli/test_cli_reproduce.py::test_without_room_for_its_datasets_nothing_begins")  # fmt: skip
