"""Time the COCO metric and the report's error analysis, on annotations and results that are made up."""

import argparse
import contextlib
import io
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from mmdet.evaluation.metrics import CocoMetric

from ean_mmdet.evaluation import FastCocoMetric
from ean_mmdet.evaluation.benchmark import made_up, stats
from ean_mmdet.evaluation.report import Settings, report_results
from ean_mmdet.evaluation.results import annotated_truth


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--images', type=int, default=5000, help='images')
    parser.add_argument('--objects', type=int, default=36, help='objects an image, on average')
    parser.add_argument('--classes', type=int, default=80, help='classes')
    parser.add_argument('--detections', type=int, default=100, help='detections an image')
    parser.add_argument(
        '--parts',
        nargs='+',
        choices=['counting', 'metric', 'report'],
        default=['counting', 'metric', 'report'],
        help='COCOeval alone, the whole metric as a test runs it, the page with all its errors',
    )
    return parser.parse_args()


def as_tested(annotations: dict, results: list[dict]) -> list[tuple[dict, dict]]:
    """Results as ``CocoMetric`` has collected them."""
    found: dict[int, list] = {entry['id']: [] for entry in annotations['images']}
    for entry in results:
        x, y, width, height = entry['bbox']
        found[entry['image_id']].append((x, y, x + width, y + height, entry['score'], entry['category_id'] - 1))
    tested = []
    for image, entries in found.items():
        columns = np.array(entries).reshape(-1, 6)
        result = dict(bboxes=columns[:, :4], scores=columns[:, 4], labels=columns[:, 5].astype(int), img_id=image)
        tested.append((dict(img_id=image), result))
    return tested


def main() -> None:
    args = parse_args()
    annotations, results = made_up(args.images, args.objects, args.classes, args.detections)
    print(f'{len(annotations["images"])} images, {len(annotations["annotations"])} objects, {len(results)} detections')
    folder = Path(tempfile.mkdtemp())
    files = folder / 'annotations.json', folder / 'results.json'
    for file, content in zip(files, (annotations, results)):
        file.write_text(json.dumps(content))
    names = [entry['name'] for entry in annotations['categories']]

    def metric(kind: type, tested: list) -> dict:
        with contextlib.redirect_stdout(io.StringIO()):
            evaluator = kind(ann_file=str(files[0]))
            evaluator.dataset_meta = dict(classes=names)
            return evaluator.compute_metrics(tested)

    def timed(what: str, call) -> object:
        begin, used = time.perf_counter(), time.process_time()
        outcome = call()
        print(
            f'{what}: {time.perf_counter() - begin:.1f} s, of the processor {time.process_time() - used:.1f} s',
            flush=True,
        )
        return outcome

    if 'report' in args.parts:
        truth = annotated_truth(files[0])
        timed('the page of the results', lambda: report_results([files[1]], truth, Settings()))
        print(f'memory at the most: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB')
    if 'counting' in args.parts:
        ours, theirs = (
            timed(f"COCOeval, {backend}'s", lambda backend=backend: stats(annotations, results, backend))
            for backend in ('hotcoco', 'pycocotools')
        )
        same = all(np.array_equal(*pair) for pair in zip(ours, theirs))
        print(f'the twelve numbers and all precisions are {"the same" if same else "NOT the same"}: {ours[0].tolist()}')
    if 'metric' in args.parts:
        tested = as_tested(annotations, results)
        kinds = (FastCocoMetric, CocoMetric)
        metrics = [timed(kind.__name__, lambda kind=kind: metric(kind, tested)) for kind in kinds]
        print('the metrics are ' + ('the same' if metrics[0] == metrics[1] else 'NOT the same'))


if __name__ == '__main__':
    main()
