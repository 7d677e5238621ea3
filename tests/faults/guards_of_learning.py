"""Guards of learning and of the command line: finite numbers, padding, time limits, and what a failure is called."""

from __future__ import annotations

from faults.guards import guard

NETWORK = "conformance/test_pitfalls_network.py"
STOPS = "faults/test_divergence.py::test_what_is_not_finite_stops_training_and_is_named"

guard("finite updates of sequence models", "training/sequence.py", "if not all_finite(batch, loss.detach(), norm):",
      "if False:", STOPS)  # fmt: skip
guard("finite batches", "training/sequence.py", "if not all_finite(batch, loss.detach(), norm):",
      "if not bool(torch.isfinite(loss.detach() + norm)):", STOPS)  # fmt: skip
guard("finite losses", "training/sequence.py", "if not all_finite(batch, loss.detach(), norm):",
      "if not all_finite(batch, norm):",
      "faults/test_divergence.py::test_a_loss_alone_that_is_not_finite_stops_a_sequence_model")  # fmt: skip
guard("finite gradients", "training/sequence.py", "if not all_finite(batch, loss.detach(), norm):",
      "if not all_finite(batch, loss.detach()):", STOPS)  # fmt: skip
guard("finite updates of SAC", "training/checked_sac.py",
      "            raise NotFiniteError(name, loss)\n", "            pass\n",
      STOPS)  # fmt: skip
guard("finite updates of SAC in one call", "training/checked_sac.py",
      "        if stepped < len(losses):\n", "        if stepped < 0:\n",
      "training/test_sac_finite.py::test_what_is_not_finite_stops_before_its_step")  # fmt: skip
guard("finite updates of value functions", "values/iql.py",
      "if not self.optimizer.advance_if_finite(sum(map(float, found.values()))):", "if self.optimizer.advance():",
      "values/test_iql_update.py::test_numbers_that_are_not_finite_change_nothing")  # fmt: skip

guard("padding outside the loss", "models/losses.py",
      "masked_mean(imitation_errors(predicted, batch.actions, discrete=discrete, kind=kind), batch.mask)",
      "imitation_errors(predicted, batch.actions, discrete=discrete, kind=kind).mean()",
      f"{NETWORK}::test_row_08_loss_is_a_mean_over_real_timesteps")  # fmt: skip
guard("padding outside the attention", "models/layers.py", "(earlier & mask[:, None, :]) | itself",
      "earlier | itself & mask[:, None, :]",
      f"{NETWORK}::test_row_05_padding_is_invisible")  # fmt: skip
guard("the future outside the attention", "models/layers.py", "(earlier & mask[:, None, :]) | itself",
      "mask[:, None, :] | itself", f"{NETWORK}::test_the_future_is_invisible")  # fmt: skip
guard("padded rows see themselves", "models/layers.py", "(earlier & mask[:, None, :]) | itself",
      "earlier & mask[:, None, :] | itself & False", f"{NETWORK}::test_row_07_padded_rows_are_finite")  # fmt: skip
guard("windows within an episode", "sequences/windows.py", "mask, timesteps = elapsed >= 0,",
      "mask, timesteps = elapsed + starts[:, None] >= 0,",
      "sequences/test_native_windows.py::test_batches_are_those_of_numpy")  # fmt: skip
guard("terminations stop value", "agents/soft_values.py", "rewards + discount * ~terminations * next_values",
      "rewards + discount * next_values", "agents/test_sac_update.py::test_bellman_target_by_hand",
      "values/test_iql_update.py::test_terminations_stop_value_and_nothing_else_does")  # fmt: skip
guard("truncations do not stop value", "values/transitions.py", "gathered(data.terminations, rows)",
      "gathered(data.terminations | data.truncations, rows)", "values/test_value_training.py")  # fmt: skip

guard("exit codes of errors", "cli/main.py", "        return error.exit_code\n", "        return 1\n",
      "cli/test_cli_bad_usage.py::test_usage_errors")  # fmt: skip
guard("exit code of inspect", "cli/main.py",
      "return DatasetError.exit_code if isinstance(verb, Inspect) and verb.failed(result) else 0", "return 0",
      "cli/test_cli_bad_data.py::test_inspect_shows_the_card_and_fails")  # fmt: skip
guard("memory that runs out is told", "cli/main.py", "    with memory_errors():\n", "    if True:\n",
      "core/test_memory.py::test_a_verb_that_needs_too_much_says_so")  # fmt: skip
guard("memory that runs out is told in Python", "facade/training.py", "@memory_errors()\ndef train(", "def train(",
      "core/test_memory.py::test_training_from_python_says_so")  # fmt: skip
guard("a second signal ends at once", "core/signals.py", "        raise KeyboardInterrupt\n", "        return\n",
      "cli/test_cli_signals.py::test_a_second_signal_ends_at_once")  # fmt: skip
guard("a stop is saved", "training/loop.py",
      "            if done < schedule.updates:\n                run.checkpoint(done, training.state())\n",
      "", "cli/test_cli_stops.py::test_a_stopped_run_saves_and_continues_bit_for_bit")  # fmt: skip
