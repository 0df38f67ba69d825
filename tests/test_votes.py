"""What votes prove: every change that the proof allows is tried, and none turns the vote."""

import itertools

import pytest
import torch

from defenses.finite_aggregation import seen_by
from defenses.votes.certificates import (
    NEVER,
    counted,
    leads,
    of_bags,
    of_plurality,
    of_run_off,
    of_spread,
)
from defenses.votes.gradients import oriented_gradients
from defenses.votes.networks import Networks
from defenses.votes.partitions import checked_count, partitions, too_many
from defenses.votes.ridge import Ridges
from fixtures.images import ImageSet


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def fewest(turned, voters, answers, most=None):
    """How many voters must answer otherwise, at best, before ``turned`` of all answers is true."""
    for many in range(len(voters) + 1 if most is None else most + 1):
        for who in itertools.combinations(range(len(voters)), many):
            for new in itertools.product(answers, repeat=many):
                tried = list(voters)
                for place, answer in zip(who, new, strict=True):
                    tried[place] = answer
                if turned(tried):
                    return many
    return None


# Votes.


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("seed", range(12))
def test_a_plurality_falls_to_one_change_more_than_its_radius_and_to_no_fewer(classes, seed):
    votes = torch.randint(classes, (5,), generator=generator(seed)).tolist()

    def winner(of):
        return int(of_plurality(counted(torch.tensor([of]), classes))[0])

    labels, radius = of_plurality(counted(torch.tensor([votes]), classes))
    assert int(radius) == fewest(lambda of: winner(of) != int(labels), votes, range(classes)) - 1


def test_a_tie_falls_to_the_smaller_class_and_is_certain_of_nothing():
    labels, radius = of_plurality(torch.tensor([[0, 2, 2], [3, 1, 1]]))
    assert labels.tolist() == [1, 0]
    assert radius.tolist() == [0, 1]  # class 0 keeps an even vote: 2, 2, 1 after one change
    assert leads(torch.tensor([[0, 2, 2]]), torch.tensor([1])).tolist() == [[2, 0, 1]]


def rounds(rankings, classes):
    """Both rounds of an election among voters who rank all classes."""
    counts = torch.zeros(1, classes, dtype=torch.int64)
    duels = torch.zeros(1, classes, classes, dtype=torch.int64)
    for ranking in rankings:
        counts[0, ranking[0]] += 1
        for place, better in enumerate(ranking):
            for worse in ranking[place + 1 :]:
                duels[0, better, worse] += 1
    return counts, duels


@pytest.mark.parametrize(("classes", "voters"), [(2, 5), (3, 5), (4, 3)])
@pytest.mark.parametrize("seed", range(6))
def test_a_run_off_falls_to_one_change_more_than_its_radius_and_to_no_fewer(classes, voters, seed):
    rankings = list(itertools.permutations(range(classes)))
    drawn = torch.randint(len(rankings), (voters,), generator=generator(seed)).tolist()
    cast = [rankings[min(one, 1 + seed)] for one in drawn]
    labels, radius = of_run_off(*rounds(cast, classes))

    def turned(of):
        return bool(of_run_off(*rounds(of, classes))[0] != labels)

    assert int(radius) == fewest(turned, cast, rankings) - 1


def test_a_label_that_two_classes_can_overtake_falls_in_the_first_round():
    """Three classes with three votes each, and everybody else's second choice is class 0."""
    cast = [(0, 1, 2)] * 3 + [(1, 0, 2)] * 3 + [(2, 0, 1)] * 3
    labels, radius = of_run_off(*rounds(cast, 3))
    rankings = list(itertools.permutations(range(3)))

    def turned(of):
        return bool(of_run_off(*rounds(of, 3))[0] != labels)

    assert labels.item() == 0
    assert fewest(turned, cast, rankings, most=2) == int(radius) + 1 == 1


def test_the_second_round_is_won_by_whom_more_voters_prefer():
    """Class 0 has most votes, but the voters of 2 like 1 better."""
    cast = [(0, 1, 2)] * 4 + [(1, 0, 2)] * 3 + [(2, 1, 0)] * 2
    assert of_plurality(counted(torch.tensor([[one[0] for one in cast]]), 3))[0].item() == 0
    assert of_run_off(*rounds(cast, 3))[0].item() == 1


def test_a_run_off_is_surer_of_whom_the_others_would_rather_have():
    cast = [(0, 1, 2)] * 4 + [(1, 0, 2)] * 3 + [(2, 0, 1)] * 3
    plain = of_plurality(counted(torch.tensor([[one[0] for one in cast]]), 3))
    assert plain[0].item() == of_run_off(*rounds(cast, 3))[0].item() == 0
    assert (plain[1].item(), of_run_off(*rounds(cast, 3))[1].item()) == (0, 1)


@pytest.mark.parametrize("seed", range(10))
def test_no_partition_that_moves_its_voters_turns_what_is_certain_of_a_spread_vote(seed):
    """Six voters of two parts each: whoever holds r parts moves the voters that see them."""
    classes, parts, spread = 2 + seed % 2, 6, [0, 2]
    votes = torch.randint(classes, (1, parts), generator=generator(seed))
    votes[0, : 2 + seed % 4] = seed % classes
    labels, radius = of_spread(votes, classes, spread)
    turned = None
    for many in range(parts + 1):
        for held in itertools.combinations(range(parts), many):
            moved = sorted({(part - step) % parts for part in held for step in spread})
            for new in itertools.product(range(classes), repeat=len(moved)):
                tried = votes.clone()
                tried[0, moved] = torch.tensor(new, dtype=torch.int64)
                if bool(counted(tried, classes).argmax(1) != labels):
                    turned = many if turned is None else turned
        if turned is not None:
            break
    assert turned is None or int(radius) < turned


def test_a_spread_of_one_part_proves_what_a_plurality_does():
    votes = torch.randint(4, (50, 31), generator=generator())
    found, expected = of_spread(votes, 4, [0]), of_plurality(counted(votes, 4))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_voters_who_are_all_of_one_mind_fall_only_together():
    _, radius = of_spread(torch.zeros(1, 4, dtype=torch.int64), 2, [0])
    assert radius.item() == 2  # class 0 keeps two of four
    assert of_plurality(torch.tensor([[4, 0]]))[1].item() == 2
    assert NEVER > 10**15


# Bags, whose every draw is tried in a set of four samples.

SAMPLES = [(0, 0), (1, 0), (2, 1), (3, 1), (4, 0), (5, 1)]
"""What may stand in a training set: (value, label)."""


def nearest(bag, at):
    """The label of the sample in a bag that lies nearest, the smaller value of equals."""
    return min(bag, key=lambda one: (abs(one[0] - at), one))[1]


def shares(training, bag, at):
    """How many of all bags vote for each label."""
    votes = [nearest(drawn, at) for drawn in itertools.product(training, repeat=bag)]
    return [votes.count(0), votes.count(1)]


def changed(training, r):
    """All sets that r samples turn it into: modified, deleted and inserted ones."""
    for size in range(max(1, len(training) - r), len(training) + r + 1):
        for new in itertools.combinations_with_replacement(SAMPLES, size):
            left, common = list(new), 0
            for one in training:
                if one in left:
                    left.remove(one)
                    common += 1
            if max(len(training), size) - common <= r:
                yield new


@pytest.mark.parametrize("bag", [1, 2])
@pytest.mark.parametrize("at", [0, 1, 4])
def test_no_change_that_bagging_allows_turns_the_vote_of_all_bags(bag, at):
    training = [SAMPLES[0], SAMPLES[1], SAMPLES[4], SAMPLES[4], SAMPLES[5]]
    exact = shares(training, bag, at)
    many = torch.tensor([[10**9 * votes for votes in exact]])  # so many draws: chance is nothing
    labels, radius = of_bags(many, len(training), bag, alpha=0.001)
    assert labels.item() == exact.index(max(exact))
    for new in changed(training, max(0, min(2, int(radius)))):
        if int(radius) >= 0:
            found = shares(new, bag, at)
            assert found[labels.item()] > found[1 - labels.item()]


def test_bagging_abstains_where_the_vote_is_too_close_for_its_draws():
    counts = torch.tensor([[260, 240], [480, 20]])
    _, radius = of_bags(counts, samples=10_000, bag=20, alpha=0.001)
    assert radius[0] == -1
    assert radius[1] > 50
    _, surer = of_bags(counts, samples=10_000, bag=20, alpha=0.2)
    assert surer[1] > radius[1]


def test_larger_sets_certify_more_and_larger_bags_less():
    counts = torch.tensor([[480, 20]])
    radius = {
        (n, bag): int(of_bags(counts, n, bag, 0.001)[1]) for n in (1000, 4000) for bag in (10, 40)
    }
    assert radius[4000, 10] == pytest.approx(4 * radius[1000, 10], rel=0.1)
    assert radius[1000, 10] > 3 * radius[1000, 40]


# Parts, and those who learn from them.


@pytest.fixture(scope="module")
def digits():
    pixels = torch.randint(256, (60, 1, 8, 8), dtype=torch.uint8, generator=generator())
    return ImageSet(pixels, torch.arange(60) % 3)


def contents(data, parts):
    """The samples of each part, by what they are."""
    return [
        [(int(data.digests()[i]), int(data.labels[i])) for i in part.tolist()] for part in parts
    ]


def test_every_sample_lies_in_one_part_whatever_the_order(digits):
    parts = partitions(digits, 7)
    assert torch.cat(parts).sort().values.tolist() == list(range(60))
    mixed = digits.take(torch.randperm(60, generator=generator()))
    assert contents(mixed, partitions(mixed, 7)) == contents(digits, parts)


def test_a_sample_that_goes_moves_its_own_part_alone(digits):
    before = contents(digits, partitions(digits, 7))
    left = digits.take(torch.arange(60) != 13)
    after = contents(left, partitions(left, 7))
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 1


@pytest.mark.parametrize("base", [Ridges, Networks])
def test_a_sample_that_goes_moves_no_voter_but_its_own_by_a_bit(digits, base):
    left = digits.take(torch.arange(60) != 13)
    images = digits.images[:20]

    def said(data):
        return torch.cat(list(base(data, partitions(data, 7), 3).scores(images)), 1)

    changed = (said(digits) != said(left)).any(0).any(1)
    assert int(changed.sum()) == 1


def test_spread_voters_move_as_the_proof_has_it(digits):
    """Part j moves the voters j - s: those and no others see other samples."""
    steps = [0, 2, 5]
    over = digits.overlaid(torch.tensor([13]), torch.zeros(1, 1, 8, 8, dtype=torch.uint8),
                           digits.labels[13:14])  # fmt: skip
    before, after = (contents(data, partitions(data, 9)) for data in (digits, over))
    parts = [j for j in range(9) if before[j] != after[j]]
    assert len(parts) == 2
    seen = [contents(data, seen_by(partitions(data, 9), steps)) for data in (digits, over)]
    moved = {voter for voter in range(9) if seen[0][voter] != seen[1][voter]}
    assert moved == {(part - step) % 9 for part in parts for step in steps}


def test_another_label_moves_one_part_and_other_pixels_move_two(digits):
    before = contents(digits, partitions(digits, 7))
    labels = digits.labels.clone()
    labels[13] = (labels[13] + 1) % 3
    relabelled = contents(digits.labelled(labels), partitions(digits.labelled(labels), 7))
    assert sum(a != b for a, b in zip(before, relabelled, strict=True)) == 1
    over = digits.overlaid(torch.tensor([13]), torch.zeros(1, 1, 8, 8, dtype=torch.uint8),
                           digits.labels[13:14])  # fmt: skip
    stamped = contents(over, partitions(over, 7))
    assert sum(a != b for a, b in zip(before, stamped, strict=True)) in (1, 2)


def test_more_parts_than_samples_are_a_reason_and_none_is_an_error(digits):
    assert too_many(61, digits) == "61 partitions are more than the 60 samples"
    assert too_many(60, digits) is None
    assert sum(len(part) for part in partitions(digits, 60)) == 60
    with pytest.raises(ValueError, match="partitions is a number from 1, got 0"):
        checked_count(0)


@pytest.mark.parametrize("base", [Ridges, Networks])
def test_a_voter_does_not_move_by_a_bit_when_others_see_other_samples(digits, base):
    parts = partitions(digits, 5)
    changed = digits.overlaid(parts[0], torch.zeros(len(parts[0]), 1, 8, 8, dtype=torch.uint8),
                              (digits.labels[parts[0]] + 1) % 3)  # fmt: skip
    fewer = [parts[0][:1], *parts[1:]]
    images = digits.images[:20]
    expected = torch.cat(list(base(digits, parts, 3).scores(images)), 1)
    found = torch.cat(list(base(changed, fewer, 3).scores(images)), 1)
    assert torch.equal(found[:, 1:], expected[:, 1:])
    assert not torch.equal(found[:, :1], expected[:, :1])


@pytest.mark.parametrize("base", [Ridges, Networks])
def test_a_part_of_one_class_and_an_empty_one_have_a_voter(digits, base):
    one_class = (digits.labels == 2).nonzero().flatten()
    voters = base(digits, [one_class, one_class[:0]], 3)
    first, second = torch.cat(list(voters.scores(digits.images)), 1).unbind(1)
    assert first.argmax(1).tolist() == [2] * 60
    assert second.isfinite().all()
    assert len(set(second.argmax(1).tolist())) == 1 or base is Networks


def test_networks_learn_what_their_part_shows():
    labels = torch.arange(80) % 2
    images = torch.rand(80, 1, 8, 8, generator=generator()) * 0.3
    images[labels == 1, :, :4] += 0.6
    data = ImageSet(images, labels)
    voters = Networks(data, [torch.arange(40), torch.arange(40, 80)], 2)
    said = torch.cat(list(voters.scores(images)), 1).argmax(2)
    assert (said == labels[:, None]).float().mean() > 0.95


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64)])
def test_gradients_are_features_of_each_image_by_itself(shape):
    images = torch.rand(6, *shape, generator=generator())
    images[0] = 0.5
    found = oriented_gradients(images)
    assert found.shape[1] < 1200
    assert torch.equal(found[2:4], oriented_gradients(images[2:4]))
    lengths = found.norm(dim=1)
    assert torch.allclose(lengths[1:], torch.ones(5), atol=1e-4)
    assert lengths[0] < 0.01


def test_a_slanted_stroke_is_stood_upright():
    """A stroke and the same one sheared have nearly the same features; without, they have not."""
    straight, slanted = torch.zeros(2, 1, 1, 28, 28)
    for row in range(4, 24):
        straight[..., row, 13:16] = 1
        slanted[..., row, 8 + (row - 4) // 2 : 11 + (row - 4) // 2] = 1

    def apart(**how):
        a, b = (oriented_gradients(image, **how) for image in (straight, slanted))
        return float((a - b).norm())

    assert apart() < 0.6 * apart(upright=False)
