"""The mistakes of authors, row by row: what was tried, what is said, what goes on unhurt, and which tests hold it.

`HELD` is the list; it is held against the tests that it names. Rows that no other test has are tried below it.
"""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.api import resolve
from harness.testing.techniques import can_be_built
from tests.conftest import ROOT, Harness, Site
from tests.test_host import HEALTHY

OTHERS = "every other plugin"
TECHNIQUES = "every other technique"
COMMANDS = "every command but a run of this suite"


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A mistake; ``said`` are words that one of the tests expects, each ``tests`` a file and a function of it."""

    made: str
    said: tuple[str, ...]
    unhurt: str
    tests: tuple[str, ...]


def row(made: str, *said: str, unhurt: str, tests: str) -> Mistake:
    return Mistake(made=made, said=said, unhurt=unhurt, tests=tuple(tests.split()))


DECLARED = "test_foreign_plugins.py::test_a_field_that_is_not_well_formed_breaks_its_plugin_and_no_other"
KIT = "testing/test_conformance.py::test_a_technique_fails_what_it_breaks_and_nothing_else"
KIT_SAYS = "testing/test_conformance.py::test_the_message_says_what_is_wrong"
IN_A_RUN = "test_author_mistakes.py::test_each_mistake_of_a_run_costs_its_own_technique_and_says_why"
REFUSED = "execution/test_trust.py::test_a_technique_that_fails_its_check_has_one_row_and_no_quality"
MUTANTS = "families/finetune/test_checks.py::test_a_mutant_is_caught"
SUITE = "test_suite.py::test_each_kind_of_mistake_is_named"
FAMILY = "testing/test_families.py::test_the_message_says_what_is_wrong"
ENDS = "execution/test_deaths.py::test_each_end_has_its_status_and_reason"
HERE = "test_mistakes_of_authors.py::"

HELD: dict[str, Mistake] = {
    "1": row(
        "a contract that there is not", "did you mean 'finetune'?", unhurt=OTHERS,
        tests=f"test_contracts.py::test_what_does_not_fit_is_refused_by_name_with_the_nearest_right_one {KIT_SAYS}",
    ),
    "2": row(
        "a typo in a target's module or attribute", "did you mean 'bad_impl'?", "did you mean 'Right'?",
        unhurt=TECHNIQUES,
        tests="test_author_mistakes.py::test_a_target_that_is_not_there_is_told_with_the_nearest_name "
        f"test_author_mistakes.py::test_a_dry_run_tells_a_typo_in_a_target {IN_A_RUN}",
    ),
    "2b": row("a target without a colon", "'a.b'", "expected", unhurt=OTHERS, tests=DECLARED),
    "3": row(
        "a target that raises at import", "No module named 'acme_secret_library'", "cannot be imported",
        unhurt=TECHNIQUES, tests=f"{IN_A_RUN} {HERE}test_the_kit_tells_a_target_that_raises_from_one_that_refuses",
    ),
    "4": row(
        "a method that the contract has is missing", "lacks apply of the contract toy; see: harness show contract toy",
        unhurt=TECHNIQUES, tests=f"{IN_A_RUN} {REFUSED} execution/test_trust.py::test_every_lane_alone_asks_first",
    ),
    "5": row(
        "a method takes other arguments", "it defines apply(self, strength), expected apply(self)", unhurt=TECHNIQUES,
        tests=f"{IN_A_RUN} "
        "test_contract_arguments.py::test_a_method_with_other_arguments_is_told_those_of_its_contract",
    ),
    "5b": row("adapt returns nothing", "adapt returned NoneType; expected the model", unhurt=TECHNIQUES, tests=MUTANTS),
    "6": row(
        "params that JSON cannot write", "cannot be written as JSON", "float('inf')", unhurt=OTHERS,
        tests=f"test_host.py::test_a_broken_plugin_is_named_with_its_first_cause_and_the_others_work {DECLARED}",
    ),
    "6b": row("params=None, params=['rank']", "['rank']", unhurt=OTHERS, tests=DECLARED),
    "7": row(
        "a space of too few values", "has 1 trial, and this suite gives every technique 3: list more values",
        unhurt=TECHNIQUES,
        tests="test_plan.py::test_a_larger_space_is_thinned_evenly_and_a_smaller_one_is_skipped_with_the_reason",
    ),
    "7b": row("a number as a space", "{'lr': 0.1}", unhurt=OTHERS, tests=DECLARED),
    "7c": row(
        "a space of a name that nothing has", "'learning_rate'", "known: base, batch_size", unhurt=OTHERS,
        tests=f"test_foreign_plugins.py::test_an_unknown_name_in_a_space_is_told_with_the_known_ones {DECLARED}",
    ),
    "7d": row("a text as a space", "{'lr': '0.1'}", unhurt=OTHERS, tests=DECLARED),
    "7e": row("an empty space", "{'lr': []}", unhurt=OTHERS, tests=DECLARED),
    "8": row(
        "weights, a rate or an evaluation of NaN", "val_loss is nan, loss is nan", "logits are nan or infinite",
        "a parameter group has lr = nan; expected a finite number", unhurt=TECHNIQUES,
        tests=f"{KIT_SAYS} {MUTANTS} "
        "families/finetune/test_protocol.py::TestQuality::test_a_loss_that_is_no_number_ends_the_case "
        "execution/test_deaths.py::test_a_case_that_is_not_a_number_has_no_metrics_and_a_curve_cut_where_it_broke",
    ),
    "9": row(
        "a frozen weight changes while training", "frozen parameters changed in 3 steps", unhurt=TECHNIQUES,
        tests=f"{KIT_SAYS} {MUTANTS} {REFUSED}",
    ),
    "10": row(
        "a copy of the head is trained", "is no longer part of the model: leave the head as it is",
        "which is the judge's head",
        unhurt=TECHNIQUES, tests=MUTANTS,
    ),
    "11": row(
        "data of its own are trained on", "was imported while the case ran: a technique knows nothing of the task",
        unhurt=TECHNIQUES, tests="execution/test_local.py::test_a_case_that_imports_much_while_it_runs_says_so",
    ),
    "12": row(
        "other numbers for the same seed", "gives other numbers for the same seed",
        "draw only from the generator", unhurt=TECHNIQUES,
        tests=f"{KIT_SAYS} testing/test_checks.py::test_each_mistake_is_told_with_its_mend_and_hurts_nothing_else",
    ),
    "13": row(
        "a global generator is seeded or drawn from", unhurt="the judge's own numbers",
        tests="families/finetune/test_protocol.py::TestTheSeed::"
        "test_settles_batches_and_head_whatever_a_technique_draws",
    ),
    "13b": row(
        "torch's default dtype is another", "the default dtype is torch.float64, was torch.float32", unhurt=TECHNIQUES,
        tests=f"{KIT} {KIT_SAYS} "
        "execution/test_trust.py::test_a_function_of_the_judge_that_a_technique_replaces_makes_its_case_incorrect",
    ),
    "13c": row(
        "a hook on all modules is left", "_global_forward_hooks", "was put between all and torch", unhurt=TECHNIQUES,
        tests="execution/test_trust.py::test_what_is_left_between_the_judge_and_torch_makes_a_case_incorrect",
    ),
    "13d": row(
        "torch computes on more threads", "torch.set_num_threads was called", unhurt=TECHNIQUES,
        tests="execution/test_left_running.py::test_more_threads_for_torch_are_incorrect_in_every_lane",
    ),
    "14": row(
        "threads go on computing", "threads", unhurt="the times of all others",
        tests="execution/test_left_running.py::test_what_goes_on_computing_after_an_evaluation_is_found "
        "execution/test_left_running.py::test_a_contestant_that_slows_others_down_costs_only_its_own_row",
    ),
    "14b": row(
        "a child process is left", unhurt="the machine",
        tests="execution/test_deaths.py::test_no_descendant_outlives_its_case",
    ),
    "15": row(
        "megabytes are printed", "the last word", unhurt="the store",
        tests="execution/test_hostile.py::test_a_long_output_is_dropped_while_the_case_runs_and_its_end_is_shown",
    ),
    "16": row(
        "the process ends by itself", "exited with status", "without a result", unhurt=TECHNIQUES,
        tests=f"{ENDS} {KIT} {KIT_SAYS}",
    ),
    "16b": row(
        "a loop without end, memory without end", "timeout after", "Where it hung:", unhurt=TECHNIQUES,
        tests=f"{ENDS} {KIT_SAYS} execution/test_where.py::test_each_is_a_timeout_in_its_phase "
        "execution/test_where.py::test_what_a_case_prints_and_the_signals_it_handles_leave_its_stacks_whole "
        "testing/test_checks.py::test_a_case_that_hangs_is_told_with_where_it_hung",
    ),
    "17": row(
        "a requirement is not met", "surely-not-installed>=2", "pip install", unhurt=TECHNIQUES,
        tests=f"test_plan.py::test_a_missing_requirement_makes_the_contestant_unavailable_with_the_command {KIT_SAYS}",
    ),
    "17b": row("requires is a text", "'einops'", unhurt=OTHERS, tests=DECLARED),
    "17c": row("a requirement that is none", "einops >>> 3", unhurt=OTHERS, tests=DECLARED),
    "18": row(
        "an entry point of another form", "MyPlugin", "my:plugin", "a/b", unhurt=OTHERS,
        tests="test_foreign_plugins.py::test_a_malformed_entry_point_is_one_broken_plugin",
    ),
    "19": row(
        "two plugins of one name", "uninstall one", unhurt=OTHERS,
        tests="test_host.py::test_two_distributions_of_one_plugin_name_are_both_named_and_neither_is_loaded "
        "test_host.py::test_a_plugin_cannot_take_the_name_of_the_host",
    ),
    "20": row(
        "torch is imported at declaration", "imports torch when it is", "import it where it is used", unhurt=OTHERS,
        tests=f"{KIT_SAYS} {HERE}test_a_plugin_that_imports_torch_to_declare_itself_is_told_so",
    ),
    "21": row(
        "torch is patched at declaration", unhurt="every case of others",
        tests="execution/test_trust.py::test_what_a_plugin_imports_reaches_no_case_of_another_plugin",
    ),
    "21b": row(
        "a function of the judge is replaced", "was replaced by the technique or its modules", unhurt=TECHNIQUES,
        tests="execution/test_trust.py::"
        "test_a_function_of_the_judge_that_a_technique_replaces_makes_its_case_incorrect "
        "execution/test_trust.py::test_functions_that_draw_compare_copy_wait_and_train_are_watched",
    ),
    "22": row(
        "the id of a metric that is taken", "'aa' declares already", "choose another id", unhurt=OTHERS,
        tests="test_host.py::test_a_metric_id_is_global_and_the_second_plugin_that_claims_it_is_broken",
    ),
    "22b": row(
        "a lane, a direction or metrics of another kind", "'acuracy'", "'lower'", "'accuracy'", unhurt=OTHERS,
        tests=DECLARED,
    ),
    "23": row(
        "a typo in a suite, at the top and in tables", "did you mean 'title'", "did you mean 'lr'", unhurt=COMMANDS,
        tests=f"{SUITE} test_suite.py::test_all_errors_come_at_once_with_file_key_and_nearest_name "
        "test_suite.py::test_claims_are_checked",
    ),
    "23b": row(
        "a typo in [quick] or [track]", "quick.seedz: unknown key; did you mean 'seeds'", "track: techniques: ",
        unhurt=COMMANDS, tests="test_suite.py::test_a_mistake_in_another_form_is_named_whatever_form_is_run",
    ),
    "23c": row(
        "several at once", "claims[0].test.better", "margins.toy_score", unhurt=COMMANDS,
        tests="test_suite.py::test_a_mistake_hides_none_of_another_kind",
    ),
    "24": row(
        "a metric that no workload emits", "toy/formula emits no 'loss'; it emits toy_score",
        "no workload of the suite emits 'loss'", unhurt=COMMANDS, tests=SUITE,
    ),
    "24b": row("test data choose", "not computed on validation data", unhurt=COMMANDS, tests=SUITE),
    "24c": row("a workload twice", "is listed twice", unhurt=COMMANDS, tests=SUITE),
    "25": row(
        "no HARNESS_API, or another one", "states no HARNESS_API", "pip install --upgrade", "expected the whole number",
        unhurt=OTHERS,
        tests="test_upgrades.py::test_a_plugin_of_another_interface_is_told_what_to_do "
        "test_host.py::test_a_broken_plugin_is_named_with_its_first_cause_and_the_others_work",
    ),
    "26": row(
        "installed twice, or named beside", unhurt="itself, which is loaded once",
        tests="test_foreign_plugins.py::test_an_installed_plugin_that_is_named_too_is_loaded_once "
        "test_foreign_plugins.py::test_of_two_installs_the_imported_one_counts_and_the_other_is_named",
    ),
    "27": row(
        "an entry point at a package without a file", "name a module, like", unhurt=OTHERS,
        tests="test_author_mistakes.py::"
        "test_an_entry_point_that_names_a_package_without_a_file_is_told_the_module",
    ),
    "28": row(
        "a hook without its mark", "register_techniques without a mark", unhurt=OTHERS,
        tests=f"test_foreign_plugins.py::test_a_hook_without_its_mark_is_named {KIT_SAYS}",
    ),
    "29": row(
        "a hook's name or argument mistyped, one that raises or ends", "did you mean 'register_techniques'?", "casse",
        unhurt=OTHERS, tests="test_host.py::test_a_broken_plugin_is_named_with_its_first_cause_and_the_others_work",
    ),
    "30": row(
        "a hook answers something else", "plugin 'odd' failed in", unhurt=OTHERS,
        tests="test_foreign_plugins.py::test_a_wrong_answer_of_a_hook_is_told_once_and_drops_the_plugin",
    ),
    "30b": row(
        "such a hook raises", "is left out from here on", unhurt=OTHERS,
        tests="test_host.py::test_an_observer_that_raises_is_reported_once_and_dropped",
    ),
    "31": row(
        "a reporter of the name json, or with a wrong target", "format 'mine' of plugin 'bad' cannot be loaded",
        unhurt="every other format",
        tests="test_foreign_plugins.py::"
        "test_a_reporter_takes_no_format_of_the_host_and_a_wrong_target_is_one_line",
    ),
    "32": row(
        "something is printed at import", unhurt="what programs read",
        tests="test_foreign_plugins.py::test_what_a_plugin_prints_is_no_output_of_a_command "
        "test_streams.py::test_what_a_plugin_prints_stays_out_of_json",
    ),
    "3b phases": row(
        "a phase of the trial is missing or is another", "the opened case has no phase infer", unhurt=TECHNIQUES,
        tests="execution/test_answers.py::test_the_phases_that_are_opened_are_those_that_are_declared "
        f"execution/test_answers.py::test_a_run_has_a_row_for_each_opened_case_that_is_not_as_declared {FAMILY}",
    ),
    "3b metrics": row(
        "metrics beyond the declared ones, or short of them", "a is missing, b is missing",
        "is not declared by the workload", "without declaring them", unhurt=TECHNIQUES,
        tests=f"execution/test_rows.py::test_the_declared_metrics_are_there_exactly {FAMILY}",
    ),
    "3b numbers": row(
        "a text or a tensor as a metric", "of type Tensor", unhurt=TECHNIQUES,
        tests="execution/test_replies.py::test_a_metric_that_is_no_number_is_an_error "
        f"execution/test_rows.py::test_a_reply_that_cannot_be_read_back_becomes_an_error_with_the_reason {FAMILY}",
    ),
    "3b declared": row(
        "a metric that no plugin declares", "no plugin declares", unhurt=OTHERS,
        tests="test_contracts.py::test_what_does_not_fit_is_refused_by_name_with_the_nearest_right_one",
    ),
    "3b samples": row(
        "no samples", "samples of train is 0, expected a number above 0", unhurt=TECHNIQUES,
        tests=f"execution/test_answers.py::test_what_is_opened_and_cannot_be_run_is_an_error {FAMILY}",
    ),
    "3b check": row(
        "a check that returns False", "check returned", "and harness.api.Incorrect raised", unhurt=TECHNIQUES,
        tests=f"execution/test_answers.py::test_a_check_that_returns_a_verdict_is_an_error {FAMILY}",
    ),
    "3b seed": row("a workload that is not seeded", "the same numbers for every seed", unhurt=OTHERS, tests=FAMILY),
    "3b notes": row(
        "a text as notes", "notes is 'one note', expected a list of texts", unhurt=TECHNIQUES,
        tests=f"{FAMILY} "
        "execution/test_rows.py::test_a_reply_that_cannot_be_read_back_becomes_an_error_with_the_reason",
    ),
    "3b figures": row(
        "figures that are not declared", "declare a metric of the lane 'time'", unhurt=TECHNIQUES,
        tests=f"execution/test_answers.py::test_figures_are_declared_metrics_of_the_time_lane {FAMILY}",
    ),
    "3b evaluate": row(
        "evaluate returns a mapping or nothing", "evaluate returned dict; expected harness.api.Outcome",
        "evaluate returned None", unhurt=TECHNIQUES,
        tests=f"execution/test_answers.py::test_an_evaluation_that_returns_no_outcome_is_an_error {FAMILY}",
    ),
    "3b open": row(
        "open returns a mapping", "open returned dict; expected harness.api.OpenCase", unhurt=TECHNIQUES,
        tests=f"execution/test_answers.py::test_what_is_opened_and_cannot_be_run_is_an_error {FAMILY}",
    ),
    "3b prepare": row(
        "a method of the judge is missing, or one raises", "lacks evaluate, open, check of harness.api.Workload",
        "the data is not there", unhurt="every other workload",
        tests=f"{FAMILY} test_run.py::test_a_workload_that_cannot_be_prepared_gives_each_technique_one_row",
    ),
}  # fmt: skip
"""The mistakes by the numbers of the list in which they were first tried."""

NUMBERS = [str(number) for number in range(1, 33)]


def test_every_row_is_held_and_none_twice() -> None:
    assert [number for number in HELD if number in NUMBERS] == NUMBERS
    assert len({mistake.made for mistake in HELD.values()}) == len(HELD)


@cache
def words_of_tests(file: str) -> dict[str, str]:
    """Return the tests of a file, methods as ``Class::test``, each with all words there; here, with its own."""
    code = (ROOT / "tests" / file).read_text(encoding="utf-8")
    tree = ast.parse(code)
    found = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    for owner in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        found |= {f"{owner.name}::{node.name}": node for node in owner.body if isinstance(node, ast.FunctionDef)}
    if file == Path(__file__).name:
        return {name: texts_of(node) for name, node in found.items()}
    return dict.fromkeys(found, f"{code}\n{texts_of(tree)}")


def texts_of(tree: ast.AST) -> str:
    """Return the texts of a tree, each as a whole, which the code may have in pieces."""
    return "\n".join(
        node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


@pytest.mark.parametrize("number", HELD)
def test_the_tests_that_hold_a_row_are_there_and_expect_its_words(number: str) -> None:
    texts = []
    for test in HELD[number].tests:
        file, _, name = test.partition("::")
        assert name in words_of_tests(file), f"{test} is not there"
        texts.append(words_of_tests(file)[name])
    for words in HELD[number].said:
        assert any(words in text for text in texts), f"no test of {number} expects {words!r}"


def test_the_kit_tells_a_target_that_raises_from_one_that_refuses(site: Site) -> None:
    made = SimpleNamespace(params={"rank": 0}, space={})

    def bench(target: str) -> Any:
        made.target = target
        return SimpleNamespace(spec=made, build=lambda: resolve(target)(**made.params))

    (site.folder / "acme_raises.py").write_text("import acme_secret_library\nclass Right: ...\n")
    (site.folder / "acme_refuses.py").write_text("def right(rank): raise ValueError('no rank of 0')\n")
    missing = "ModuleNotFoundError: No module named 'acme_secret_library'"
    with pytest.raises(AssertionError, match=f"acme_raises:Right cannot be imported: {missing}"):
        can_be_built(bench("acme_raises:Right"))
    with pytest.raises(AssertionError, match=r"acme_refuses:right does not take \{'rank': 0\}: no rank of 0"):
        can_be_built(bench("acme_refuses:right"))


def test_a_plugin_that_imports_torch_to_declare_itself_is_told_so(site: Site, harness: Harness) -> None:
    """The module is a stand-in, which takes less than a second."""
    site.plugin("eager", "import torch\nHARNESS_API = 1\n")
    site.plugin("healthy", HEALTHY)
    (site.folder / "torch.py").write_text("")
    told = {entry["name"]: entry for entry in json.loads(harness("plugins", "--json").stdout)}
    assert told["eager"]["status"] == told["healthy"]["status"] == "ok"
    assert told["eager"]["cause"] == (
        "imports torch when it is listed, which makes every command slow: import it where it is used"
    )
    assert not told["healthy"]["cause"]
