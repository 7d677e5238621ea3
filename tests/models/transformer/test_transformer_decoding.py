from __future__ import annotations

import itertools
import math

import pytest
import torch
from transformer_helpers import fresh_transformer

from foretell.core.errors import UsageError
from foretell.models.transformer import beam_search, greedy_search, length_penalty

SOURCES = torch.tensor([[3, 4, 5, 3], [5, 3, 0, 0], [4, 4, 3, 0], [4, 0, 0, 0], [3, 3, 5, 5], [5, 5, 5, 5]])
END = 2


@torch.no_grad()
def log_probabilities(model, source, targets):
    """Of targets after `start`, each read as a whole, without a cache: one forward pass for all of them."""
    symbols = torch.zeros(len(targets), 1 + max(map(len, targets)), dtype=torch.int64)
    for row, target in zip(symbols, targets):
        row[: 1 + len(target)] = torch.tensor([1, *target])
    logits = model(source.expand(len(targets), -1), symbols[:, :-1])
    logits[..., :2] = -torch.inf  # padding and start never come next
    chosen = logits.log_softmax(-1).gather(2, symbols[:, 1:, None])[..., 0]
    return chosen.masked_fill(symbols[:, 1:] == 0, 0.0).sum(1).tolist()


def without_padding(row):
    return [symbol for symbol in row.tolist() if symbol]


def all_targets(words, max_length):
    """Every target: words and `end`, or `max_length` words without it."""
    ended = [(*target, END) for count in range(max_length) for target in itertools.product(words, repeat=count)]
    return ended + list(itertools.product(words, repeat=max_length))


@pytest.fixture(scope="module", params=[(3, True), (7, False), (23, False)], ids=str)
def model(request):
    """Its greedy targets have several lengths; a beam of 4 finds better ones for half of the sources."""
    return fresh_transformer(request.param[0], share_embeddings=request.param[1])


def test_greedy_search_takes_the_most_probable_symbol_of_the_uncached_network(model):
    found = greedy_search(model, SOURCES, max_length=8)
    assert len({len(without_padding(row)) for row in found.symbols}) >= 3
    for source, row, score in zip(SOURCES, found.symbols, found.scores):
        target = []
        while len(target) < 8 and END not in target:
            logits = model(source[source > 0][None], torch.tensor([[1, *target]]))[0, -1]
            target.append(2 + int(logits[2:].argmax()))
        assert without_padding(row) == target
        assert float(score) == pytest.approx(log_probabilities(model, source, [target])[0], abs=1e-9)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 3.0])
def test_a_beam_of_one_is_greedy_search(model, alpha):
    greedy = greedy_search(model, SOURCES, max_length=8)
    beam = beam_search(model, SOURCES, max_length=8, beam_width=1, alpha=alpha)
    assert torch.equal(beam.symbols, greedy.symbols)
    penalties = [length_penalty(len(without_padding(row)), alpha) for row in greedy.symbols]
    assert [score * penalty for score, penalty in zip(beam.scores.tolist(), penalties)] == pytest.approx(
        greedy.scores.tolist(), abs=1e-9
    )  # fmt: skip


@pytest.mark.parametrize("alpha", [0.0, 0.6, 3.0])
def test_a_beam_that_holds_everything_is_exhaustive_search(model, alpha):
    targets = all_targets([3, 4, 5], 3)
    found = beam_search(model, SOURCES, max_length=3, beam_width=len(targets), alpha=alpha)
    for source, row, score in zip(SOURCES, found.symbols, found.scores):
        plain = log_probabilities(model, source, targets)
        assert sum(map(math.exp, plain)) == pytest.approx(1.0)
        scores = [value / ((5 + len(target)) / 6) ** alpha for value, target in zip(plain, targets)]
        best = max(range(len(targets)), key=lambda index: scores[index])
        assert without_padding(row) == list(targets[best])
        assert float(score) == pytest.approx(scores[best], abs=1e-9)


def test_a_beam_equals_the_slow_one_for_each_source_alone(model):
    found = beam_search(model, SOURCES, max_length=5, beam_width=3, alpha=0.6)
    for source, row, score in zip(SOURCES, found.symbols, found.scores):
        beam, ended = [()], {}
        for length in range(1, 6):
            longer = [(*target, symbol) for target in beam for symbol in (2, 3, 4, 5)]
            known = dict(zip(longer, log_probabilities(model, source, longer)))
            beam = sorted(longer, key=lambda target: -known[target])[: 3 - len(ended)]
            done = [target for target in beam if target[-1] == END or length == 5]
            ended |= {target: known[target] / length_penalty(length, 0.6) for target in done}
            beam = [target for target in beam if target not in ended]
            if not beam:
                break
        best = max(ended, key=lambda target: ended[target])
        assert without_padding(row) == list(best)
        assert float(score) == pytest.approx(ended[best], abs=1e-9)


def test_a_wider_beam_finds_what_greedy_search_misses(model):
    greedy, beam = (beam_search(model, SOURCES, max_length=8, beam_width=width, alpha=0.0) for width in (1, 4))
    assert (beam.scores >= greedy.scores - 1e-9).all()
    assert (beam.scores > greedy.scores + 1e-3).sum() >= 3


def test_length_penalty_by_hand():
    assert length_penalty(1, 0.6) == 1.0
    assert length_penalty(19, 0.5) == pytest.approx(2.0)  # sqrt(24 / 6)
    assert length_penalty(7, 0.0) == 1.0
    assert length_penalty(7, 1.0) == pytest.approx(2.0)


def test_a_larger_alpha_chooses_longer_targets(model):
    lengths = [
        int((beam_search(model, SOURCES, max_length=8, beam_width=30, alpha=alpha).symbols > 0).sum())
        for alpha in (0.0, 3.0)
    ]
    assert lengths[0] < lengths[-1]


@pytest.mark.parametrize("search", [greedy_search, beam_search])
def test_decoding_stops_when_every_target_has_ended(search, monkeypatch):
    model = fresh_transformer(3)
    calls = []
    inner = model.decode

    def ends_after_three(targets, *rest, cache, **more):
        calls.append(targets.shape)
        logits = inner(targets, *rest, cache=cache, **more) * 0
        logits[..., END if cache.length == 3 else 4] = 50.0
        return logits

    monkeypatch.setattr(model, "decode", ends_after_three)
    found = search(model, SOURCES, max_length=8)
    assert found.symbols.tolist() == [[4, 4, END]] * 6
    assert found.scores.tolist() == pytest.approx([0.0] * 6, abs=1e-9)
    width = 1 if search is greedy_search else 4
    assert calls == [(6 * width, 1)] * 3  # one symbol a call: the rest is cached


@pytest.mark.parametrize(("alpha", "target", "calls"), [(1.0, [4] * 7 + [END], 8), (0.6, [END], 1)])
def test_a_beam_search_goes_on_while_a_longer_target_could_still_win(alpha, target, calls, monkeypatch):
    model, lengths = fresh_transformer(3), []

    def sure_after_the_first(targets, *rest, cache, **more):
        lengths.append(inner(targets, *rest, cache=cache, **more).shape)
        logits = torch.full((len(targets), 1, 6), -1e9, dtype=torch.float64)
        logits[..., END if cache.length == 8 else 4] = 0.0
        if cache.length == 1:
            logits[..., END], logits[..., 4] = math.log(0.6), math.log(0.4)
        return logits

    inner = model.decode
    monkeypatch.setattr(model, "decode", sure_after_the_first)
    found = beam_search(model, SOURCES[:1], max_length=8, beam_width=2, alpha=alpha)
    long, short = math.log(0.4) / (13 / 6) ** alpha, math.log(0.6)  # -0.42 or -0.58 against -0.51
    assert without_padding(found.symbols[0]) == target
    assert float(found.scores[0]) == pytest.approx(max(long, short))
    assert len(lengths) == calls


def test_targets_that_are_cut_have_no_end_and_searches_know_their_bounds():
    model = fresh_transformer(3)
    whole, cut = greedy_search(model, SOURCES, max_length=8), greedy_search(model, SOURCES, max_length=2)
    assert torch.equal(cut.symbols, whole.symbols[:, :2])
    assert sum(END not in row for row in cut.symbols) == 4
    with pytest.raises(UsageError, match="max_length is 10; expected 1 to the model's max_length, 9"):
        greedy_search(model, SOURCES, max_length=10)
    with pytest.raises(UsageError, match="max_length is 0"):
        beam_search(model, SOURCES, max_length=0)


@pytest.mark.parametrize(("wrong", "message"), [
    ({"beam_width": 0}, "beam_width is 0; expected a whole number of 1 or more"),
    ({"beam_width": 1.5}, "beam_width is 1.5; expected a whole number"),
    ({"beam_width": None}, "beam_width is None; expected a whole number"),
    ({"alpha": -1.0}, "alpha is -1.0; expected a number of 0 or more"),
    ({"alpha": math.nan}, "alpha is nan; expected a number of 0 or more"),
    ({"alpha": math.inf}, "alpha is inf; expected a number of 0 or more, and finite"),
    ({"alpha": "x"}, "alpha is 'x'; expected a number"),
    ({"max_length": "8"}, "max_length is '8'; expected a whole number"),
    ({"max_length": 2.5}, "max_length is 2.5; expected a whole number"),
])  # fmt: skip
def test_settings_of_a_search_are_numbers(wrong, message):
    with pytest.raises(UsageError, match=message):
        beam_search(fresh_transformer(3), SOURCES, **{"max_length": 3, **wrong})


def test_whole_numbers_of_a_search_may_be_written_as_floats():
    model = fresh_transformer(3)
    found = greedy_search(model, SOURCES, max_length=4.0)
    assert torch.equal(found.symbols, greedy_search(model, SOURCES, max_length=4).symbols)
    found = beam_search(model, SOURCES, max_length=4.0, beam_width=2.0, alpha=1)
    assert torch.equal(found.symbols, beam_search(model, SOURCES, max_length=4, beam_width=2, alpha=1.0).symbols)


def test_decoding_leaves_no_graph_and_no_dropout():
    model = fresh_transformer(3, dropout=0.5)
    first, second = (beam_search(model, SOURCES, max_length=8) for _ in range(2))
    assert torch.equal(first.symbols, second.symbols)
    assert not first.scores.requires_grad
