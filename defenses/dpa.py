"""Classifiers that each see one part of the training set vote; a changed sample moves one vote."""

from __future__ import annotations

from torch import Tensor

from defenses.base import Certificate, Certified, defense
from defenses.votes.certificates import counted, of_plurality
from defenses.votes.election import Election
from defenses.votes.partitioned import Partitioned


class Plurality(Election):
    """The class with most votes, the smaller one of equals."""

    def certify(self, images: Tensor) -> Certificate:
        labels, radius = of_plurality(counted(self.votes(images), self.classes))
        return Certificate(labels, radius, "insertion or deletion")


@defense("dpa", source="Levine and Feizi 2021, arXiv:2006.14768", family="partition")
class DPA(Partitioned, Certified):
    """Deep partition aggregation: split the training set by a hash, and let each part vote.

    Question: how many samples would an attacker have to insert or delete, whatever they are? The
    training set is split in ``partitions`` by a hash of each image, a classifier is trained on
    each, and the class with most votes wins. One sample that comes or goes changes one voter, so
    half of the lead is certain. A modified sample counts as one that goes and one that comes.

    ``base``: what votes. ``"ridge"``: ridge regression on oriented gradients, which are fixed
    functions of an image; ``"network"``: a small network, trained with all others in one pass. The
    number of partitions may not follow the number of samples, which the attacker could change.

    Deviates from the paper: its voters are networks that see 200 passes over their part. Costs for
    ridges less than one training of the victim. Its accuracy is what voters learn from a few
    samples: more parts give proofs against more changes, and fewer right answers. Does not apply to
    fewer samples than parts.
    """

    sees = frozenset({"suspect"})
    elects = Plurality
