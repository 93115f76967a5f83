"""Worth of a scheme in the supernet."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from mmengine.dist import all_reduce_params
from mmengine.runner import Runner
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import InputError
from ..insertion import set_connections


class SchemeEvaluator:
    """Evaluates schemes by the runner's own validation data and metric.

    Args:
        runner: Of the supernet's config, its weights loaded.
        metric: Name of the metric, ``'accuracy/top1'``. Defaults to None, the first that the evaluator gives.
        norm_batches: Batches of training data that a scheme's batch norms take new statistics from before it is judged,
            as those of training are a mixture of all schemes'; 0 leaves them as they are, as the paper does.
            Defaults to 4.
    """

    def __init__(self, runner: Runner, metric: str | None = None, norm_batches: int = 4) -> None:
        self.model = runner.model.module if hasattr(runner.model, 'module') else runner.model
        self.loader = runner.build_dataloader(runner.cfg.val_dataloader, seed=runner.seed)
        self.evaluator = runner.build_evaluator(runner.cfg.val_evaluator)
        self.evaluator.dataset_meta = self.loader.dataset.metainfo
        self.metric = metric
        self.batches = []
        if norm_batches:
            training = runner.build_dataloader(runner.cfg.train_dataloader, seed=runner.seed)
            self.batches = list(islice(training, norm_batches))

    def __call__(self, scheme: Sequence[int]) -> float:
        """The metric of a scheme, in percent.

        Raises:
            InputError: There is no such metric.
        """
        set_connections(self.model, scheme)
        if self.batches:
            reestimate_norms(self.model, self.batches)
        self.model.eval()
        with torch.no_grad():
            for batch in self.loader:
                self.evaluator.process(data_samples=self.model.val_step(batch), data_batch=batch)
        with contextlib.redirect_stdout(io.StringIO()):  # tables of pycocotools
            metrics = self.evaluator.evaluate(len(self.loader.dataset))
        name = self.metric = self.metric or next(iter(metrics))
        if name not in metrics:
            raise InputError(f'the evaluator gives no metric {name!r}; it gives {", ".join(metrics)}')
        # accuracies are percentages, average precisions shares
        return metrics[name] * (1 if name.startswith(('accuracy', 'single-label')) else 100)


def reestimate_norms(model: Any, batches: Sequence[dict]) -> None:
    """Give the batch norms that training would update the statistics of these batches, averaged."""
    model.train()
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the average over all batches
    try:
        with torch.no_grad():
            for batch in batches:
                data = model.data_preprocessor(batch, training=True)
                model(**data, mode='loss')
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum
    all_reduce_params([b for norm in norms for b in (norm.running_mean, norm.running_var)], coalesce=False, op='mean')
