"""The workloads of ``route``: their data, that they train, and that they emit what is declared."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from harness.api import UsageError
from harness.families.route.contract import Layout, Router, RouteTask, Sparse, Tokens
from harness.families.route.models import NEAR, Batch, NearCharacters
from harness.families.route.protocol import RouteWorkload
from harness.families.route.settings import Settings
from harness.families.route.training import fit, quality, relief, start
from harness.families.route.workloads.clusters import CLUSTERS, WORDS, Clusters, mixture
from harness.families.route.workloads.text import CONTEXT, CharLm
from harness.judge.settings import read_settings
from tests.declared import declared_here, specs
from tests.families.conftest import Context
from tests.families.route.routers import Linear, Plain, top2

SPECS = specs("route")
KINDS: dict[str, type[RouteWorkload]] = {"clusters": Clusters, "charlm-moe": CharLm}
FEW = {"steps": 6, "batch_size": 128}
LAYERS = {"clusters": 1, "charlm-moe": 2}
CURVES = ("max_violation", "load_variation", "load_entropy")


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_targets_lead_to_the_class(kind: str) -> None:
    assert SPECS[kind].target == f"{KINDS[kind].__module__}:{KINDS[kind].__qualname__}"


def test_the_declared_settings_are_the_protocol(kind: str) -> None:
    assert vars(read_settings(Settings, SPECS[kind].settings)) == SPECS[kind].settings


def test_the_declared_metrics_are_emitted_exactly_and_repeat(kind: str, context: Context) -> None:
    outcomes = [KINDS[kind]().evaluate(Plain(), context(kind, **FEW)) for _ in range(2)]
    assert set(outcomes[0].metrics) == set(SPECS[kind].metrics)
    assert outcomes[0] == outcomes[1]


def test_curves_are_by_layer_and_step(kind: str, context: Context) -> None:
    series = KINDS[kind]().evaluate(Plain(), context(kind, **FEW)).series
    names = {f"layer{i + 1}_{name}" for i in range(LAYERS[kind]) for name in CURVES}
    assert set(series) == {"train_loss", *names}
    assert {len(curve) for curve in series.values()} == {FEW["steps"]}


def test_the_trial_has_the_declared_phases_and_gives_the_declared_shares(kind: str, context: Context) -> None:
    trial = KINDS[kind]().open(Plain(), context(kind, **FEW))
    assert tuple(trial.phases) == tuple(SPECS[kind].phases)
    assert {phase.samples for phase in trial.phases.values()} == {FEW["batch_size"]}
    for phase in (*trial.phases.values(), *trial.probes.values()):
        phase.run()
    assert trial.figures is not None
    seconds = {"train": [4.0, 2.0], "infer": [1.0, 1.0], "routing_train": [1.0, 1.0], "routing_infer": [0.5, 0.3]}
    shares = trial.figures(seconds)
    assert shares == pytest.approx({"train_routing_share": 37.5, "infer_routing_share": 40.0})
    assert set(shares) == declared_here("route", "time")


def test_timing_leaves_the_weights_near_where_they_are(kind: str, context: Context) -> None:
    trial = KINDS[kind]().open(Plain(), context(kind, **FEW))
    model = trial.phases["train"].run.trains.model  # type: ignore[attr-defined]
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for phase in (*trial.phases.values(), *trial.probes.values()):
        phase.run()
    for old, parameter in zip(before, model.parameters(), strict=True):
        assert torch.allclose(old, parameter, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": 0}, "steps = 0: expected a whole number, more than 0"),
        ({"lr": "fast"}, "lr = 'fast': expected a number"),
        ({"experts": 2.5}, "experts = 2.5: expected a whole number"),
        ({"active": 9}, "active = 9: expected at most the 8 experts"),
    ],
)
def test_settings_without_sense_are_named(settings: dict[str, object], words: str, context: Context) -> None:
    with pytest.raises(UsageError, match=words):
        Clusters().problem(context("clusters", **settings))


class TestClusters:
    def test_the_class_is_what_the_cluster_s_teacher_says(self) -> None:
        found = mixture(torch.Generator().manual_seed(0))
        batch = found.draw(500, torch.Generator().manual_seed(1))
        for features, word, target in zip(batch.inputs, batch.ids, batch.targets, strict=True):
            scores = features[8:].double() @ found.teachers[word // WORDS].double()
            assert int(scores.argmax()) == target

    def test_shares_follow_zipf(self) -> None:
        batch = mixture(torch.Generator().manual_seed(0)).draw(100_000, torch.Generator().manual_seed(1))
        shares = torch.bincount(batch.ids // WORDS, minlength=CLUSTERS) / len(batch)
        weights = torch.tensor([1 / (rank + 1) for rank in range(CLUSTERS)])
        torch.testing.assert_close(shares, weights / weights.sum(), rtol=0.1, atol=0.002)

    def test_words_are_all_equally_likely_in_their_cluster_and_features_do_not_know_them(self) -> None:
        batch = mixture(torch.Generator().manual_seed(0)).draw(50_000, torch.Generator().manual_seed(1))
        first = batch.inputs[batch.ids // WORDS == 0]
        words = batch.ids[batch.ids // WORDS == 0]
        means = torch.stack([first[words == word].mean(0) for word in range(WORDS)])
        assert (means - means.mean(0)).abs().max() < 0.1

    def test_training_learns_and_no_token_is_seen_twice(self, context: Context) -> None:
        with torch.random.fork_rng(devices=[]):
            problem = Clusters().problem(context("clusters", steps=60, batch_size=256))
            trained = start(Plain(), problem)
            fit(trained, problem)
        assert trained.losses[-1] < 0.8 * trained.losses[0]
        first, second = problem.data.train(), problem.data.train()
        assert not (first.inputs[:, None] == second.inputs[None]).all(2).any()


class TestText:
    def test_targets_are_the_characters_that_follow(self, context: Context) -> None:
        data, _ = CharLm().data(read_settings(Settings, SPECS["charlm-moe"].settings), 0, context().cache, "cpu")
        for batch in (data.train(), data.validation[0], data.test[-1]):
            assert batch.inputs.shape == (16, CONTEXT)
            targets = batch.targets.view_as(batch.inputs)
            assert torch.equal(batch.inputs[:, 1:], targets[:, :-1])
            assert torch.equal(batch.ids, batch.inputs.flatten())

    def test_no_sequence_is_in_two_parts(self, context: Context) -> None:
        data, _ = CharLm().data(read_settings(Settings, SPECS["charlm-moe"].settings), 0, context().cache, "cpu")
        rows = [
            {tuple(row) for batch in part for row in batch.inputs.tolist()} for part in (data.validation, data.test)
        ]
        training = {tuple(row) for _ in range(100) for row in data.train().inputs.tolist()}
        repeated = len(rows[0] & rows[1])  # rules of dashes and blanks recur in the text itself
        assert repeated < 0.02 * len(rows[0])
        assert len(training & (rows[0] | rows[1])) < 0.02 * len(training)

    def test_the_text_is_identified(self, context: Context) -> None:
        (note,) = CharLm().evaluate(Plain(), context("charlm-moe", **FEW)).notes
        assert "SHA-256" in note

    def test_a_character_is_embedded_with_those_before_it(self) -> None:
        near = NearCharacters(10, 4)
        rows = torch.randint(10, (3, 6))
        tables = near.tables.weight.view(NEAR, 11, 4)
        found = near(rows)
        for sequence in range(3):
            for place in range(6):
                seen = [rows[sequence, place - back].item() if place >= back else 10 for back in range(NEAR)]
                expected = sum(tables[NEAR - 1 - back, character] for back, character in enumerate(seen))
                torch.testing.assert_close(found[sequence, place], expected)

    @pytest.mark.parametrize("size", [100, CONTEXT * 4096])
    def test_batches_have_to_fit_the_text(self, size: int, context: Context) -> None:
        with pytest.raises(UsageError, match=f"batch_size = {size}"):
            CharLm().problem(context("charlm-moe", batch_size=size))

    def test_what_is_kept_in_the_batch_is_noted(self, context: Context) -> None:
        def crowded(logits: Tensor, tokens: Tokens) -> Sparse:
            found = top2(logits, tokens)
            order = torch.argsort(found.token, stable=True)
            return Sparse(
                token=found.token[order], expert=found.expert[order], weight=found.weight[order],
                capacity=len(tokens) // 5,
            )  # fmt: skip

        outcome = CharLm().evaluate(Plain(crowded, equivariant=False), context("charlm-moe", **FEW))
        assert any("other sequences" in note for note in outcome.notes)
        assert outcome.metrics["dropped_assignments"] > 0


class TestSharing:
    def shared(self) -> Plain:
        technique = Plain()
        technique.layout = lambda task: Layout(experts=task.experts, hidden=task.hidden, shared=True)  # type: ignore[method-assign]
        return technique

    def parameters(self, technique: Plain, layers: int, context: Context) -> tuple[int, int]:
        """All, and those of norms."""
        from harness.families.route.workloads import text as route_text

        problem = CharLm().problem(context("charlm-moe", **FEW))
        model = route_text.CharTransformer(96, CONTEXT, width=32, layers=layers)
        trained = start(technique, replace(problem, model=model, task=replace(problem.task, layers=layers)))
        norms = sum(parameter.numel() for name, parameter in trained.model.named_parameters() if "norm" in name)
        return sum(parameter.numel() for parameter in trained.model.parameters()), norms

    def test_parameters_do_not_grow_with_depth_norms_apart(self, context: Context) -> None:
        counts = [self.parameters(self.shared(), layers, context) for layers in (1, 2, 5)]
        assert len({total - norms for total, norms in counts}) == 1
        assert [norms for _, norms in counts] == [64 * (2 * layers + 1) for layers in (1, 2, 5)]

    def test_without_sharing_they_do(self, context: Context) -> None:
        (one, _), (two, _) = (self.parameters(Plain(), layers, context) for layers in (1, 2))
        assert two > one


class Following(Linear):
    """A bias against the load, as large as it takes."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.register_buffer("bias", torch.zeros(8))

    def forward(self, tokens: Tokens) -> Sparse:
        return top2(self.gate(tokens.features) + self.bias, tokens)

    def after_step(self, load: Tensor) -> None:
        self.bias += 0.01 * torch.sign(load.mean() - load)


class Balanced(Plain):
    def router(self, task: RouteTask, layout: Layout) -> Router:
        return Following(self.rule, task.width, layout.experts)


class TestRelief:
    def of(self, technique: Plain, context: Context) -> tuple[float, list[Tensor], list[Tensor]]:
        with torch.random.fork_rng(devices=[]):
            problem = Clusters().problem(context("clusters", steps=4, batch_size=512))
            model = start(technique, problem).model
            before = [value.clone() for value in (*model.parameters(), *model.buffers())]
            return relief(model, problem.data.validation[0], 0), before, [*model.parameters(), *model.buffers()]

    def test_a_router_that_updates_nothing_removes_nothing(self, context: Context) -> None:
        assert self.of(Plain(), context)[0] == 0

    def test_updates_against_the_load_remove_it_and_asking_changes_nothing(self, context: Context) -> None:
        removed, before, after = self.of(Balanced(), context)
        assert 50 < removed <= 100
        assert all(torch.equal(one, old) for one, old in zip(after, before, strict=True))


def test_accuracy_and_loss_are_of_all_tokens(context: Context) -> None:
    with torch.random.fork_rng(devices=[]):
        problem = Clusters().problem(context("clusters", **FEW))
        model = start(Plain(), problem).model
    found = quality(model, problem.data.test, 0)
    inputs, targets = (
        torch.cat([getattr(batch, name) for batch in problem.data.test]) for name in ("inputs", "targets")
    )
    ids = torch.cat([batch.ids for batch in problem.data.test])
    with torch.no_grad():
        logits = model.eval()(Batch(inputs=inputs, ids=ids, targets=targets), [])
    assert found.loss == pytest.approx(torch.nn.functional.cross_entropy(logits, targets).item(), rel=1e-5)
    assert found.accuracy == pytest.approx(100 * (logits.argmax(1) == targets).float().mean().item(), abs=0.2)
