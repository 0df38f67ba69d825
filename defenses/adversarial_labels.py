"""Where adversarial examples land: of a backdoored network, more often in its target."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from defenses.base import ModelDetector, ModelVerdict, defense
from defenses.outlier import standing_out, too_few
from defenses.view import DefenderView
from fixtures.training import autocast

TOGETHER = 50
"""Images of one forward pass."""

EACH = 5
"""Images for each class, at least: of fewer that end in a class hardly any is the rule."""

TEN = 10
"""Classes for which ``threshold`` is meant; for more it rises."""


@defense("adversarial_labels", source="Mu et al. 2023, arXiv:2202.06312", family="adversarial")
class AdversarialLabels(ModelDetector):
    """Lead clean images away from their class; one class that most end in is a backdoor's target.

    Question: which class lies nearest to all others? The source observes that what is added to an
    image by an untargeted attack resembles the trigger of a backdoored network, and is answered by
    its target. Here images take ``steps`` steps up their own loss, each of ``step`` grey levels of
    255 in the root mean square. Of each class the share counts of other classes' images that end in
    it. A class that lies more than ``threshold`` deviations above the mean of the others is
    accused, of more than ten classes so many more that chance stays the same; a deviation is no
    smaller than chance makes it.

    Looks at the whole image, so it sees blurs, warps and noise for which no small patch stands, and
    may miss a patch. The source erases by this observation and names the class that is met most;
    how far it must stand out, the normalised steps and their length are ours. Assumes one target.
    Of at most ``images`` clean images drawn at random, or five for each class; does not apply to
    fewer than four classes.
    """

    def __init__(
        self, steps: int = 40, step: float = 0.75, images: int = 250, threshold: float = 3.0
    ) -> None:
        self.steps = steps
        self.step = step
        self.images = images
        self.threshold = threshold

    def supports(self, view: DefenderView) -> str | None:
        return too_few(view.num_classes)

    def inspect(self, view: DefenderView) -> ModelVerdict:
        from scipy.stats import norm

        view.model.eval().requires_grad_(False)
        most = max(self.images, EACH * view.num_classes)
        of = view.clean.take(torch.randperm(len(view.clean), generator=view.generator)[:most])
        batches = of.batches(TOGETHER)
        ended = torch.cat([self._led_away(view, of.labels[at], images) for at, images in batches])
        classes = range(view.num_classes)
        shares = torch.stack([(ended[of.labels != one] == one).double().mean() for one in classes])
        shares = shares.nan_to_num()  # of a class that all images belong to
        mean = float(shares.mean())
        anomaly = standing_out(shares, math.sqrt(max(mean * (1 - mean), 1e-9) / len(of)))
        self.report["shares"] = shares.tolist()
        # The same chance over all classes as the threshold has over ten.
        limit = norm.isf(norm.sf(self.threshold) * min(1.0, TEN / view.num_classes))
        accused = tuple((anomaly > limit).nonzero().flatten().tolist())
        return ModelVerdict(anomaly, bool(accused), accused)

    def _led_away(self, view: DefenderView, labels: Tensor, images: Tensor) -> Tensor:
        """The classes that images [B, C, H, W] end in: int64 [B] on the CPU."""
        x, own = images.to(view.device), labels.to(view.device)
        length = self.step / 255 * math.sqrt(x[0].numel())
        for _ in range(self.steps):
            x = x.detach().requires_grad_()
            with autocast(view.device):
                logits = view.model(x)
            loss = torch.nn.functional.cross_entropy(logits.float(), own, reduction="sum")
            (slope,) = torch.autograd.grad(loss, x)
            size = slope.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None, None]
            x = (x.detach() + length * slope / size).clamp(0.0, 1.0)
        with torch.no_grad(), autocast(view.device):
            ended: Tensor = view.model(x).argmax(1).cpu()
        return ended
