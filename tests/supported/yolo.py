"""EAN in YOLOs of ultralytics, through their whole life; see yolo.sh."""

import argparse
import copy
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import torch
from torch import Tensor, nn
from ultralytics import YOLO, __version__
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import DetectionModel

import ean_mmdet
from ean_mmdet.attention import EAN

CLASSES = ('RBC', 'WBC', 'Platelets')
FAMILIES = ('yolov5n', 'yolov8n', 'yolov9t', 'yolo11n', 'yolo12n')


def to_yolo(bccd: Path, folder: Path) -> Path:
    """BCCD's boxes as text files beside links to its images, and the data set's file."""
    for split in ('train', 'val'):
        (folder / split).mkdir(parents=True, exist_ok=True)
        for name in (bccd / 'ImageSets/Main' / f'{split}.txt').read_text().split():
            shutil.copy(bccd / 'JPEGImages' / f'{name}.jpg', folder / split)
            root = ElementTree.parse(bccd / 'Annotations' / f'{name}.xml').getroot()
            width, height = (int(root.findtext(f'size/{side}')) for side in ('width', 'height'))
            lines = []
            for entry in root.iter('object'):
                x1, y1, x2, y2 = (int(entry.findtext(f'bndbox/{key}')) for key in ('xmin', 'ymin', 'xmax', 'ymax'))
                box = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height
                lines.append(f'{CLASSES.index(entry.findtext("name"))} ' + ' '.join(f'{value:.6f}' for value in box))
            (folder / split / f'{name}.txt').write_text('\n'.join(lines))
    names = '\n'.join(f'  {index}: {name}' for index, name in enumerate(CLASSES))
    path = folder / 'bccd.yaml'
    path.write_text(f'path: {folder}\ntrain: train\nval: val\nnames:\n{names}\n')
    return path


def change(actual: Tensor, expected: Tensor) -> float:
    """The largest difference of boxes or scores, in shares of the largest of them; (1, 4 + …, anchors) each."""
    parts = [(actual[:, :4], expected[:, :4]), (actual[:, 4:], expected[:, 4:])]
    return max(((a - e).abs().max() / e.abs().max()).item() for a, e in parts)


def raw(model: nn.Module, x: Tensor) -> Tensor:
    """Boxes and scores of all anchors, (1, 4 + classes, anchors)."""
    with torch.no_grad():
        y = model(x)
    return y[0] if isinstance(y, (tuple, list)) else y


def eans(model: nn.Module) -> list[EAN]:
    return [module for module in model.modules() if isinstance(module, EAN)]


def fuse_and_export(model: nn.Module, x: Tensor, folder: Path) -> str:
    """Fuse a network whose attention has learned, export and load that; what became of its output."""
    expected, fused = raw(model, x), copy.deepcopy(model).fuse(verbose=False)
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    after = change(raw(fused, x), expected)
    torch.export.save(torch.export.export(copy.deepcopy(fused), (x,), strict=False), folder / 'ean.pt2')
    exported = change(raw(torch.export.load(folder / 'ean.pt2').module(), x), expected)
    shut = copy.deepcopy(fused)
    for module in eans(shut):
        nn.init.constant_(module.delta, -100)
    lost = change(raw(shut, x), expected)
    assert len(eans(fused)) == len(eans(model)) > 0 and max(after, exported) < 1e-4
    assert lost > 1e-2, 'fused, the network does not depend on its attention'
    return f'{len(eans(fused))} EANs, {norms} norms left | {after:.1e} | {exported:.1e} | {lost:.1e}'


def families(folder: Path, size: int = 64) -> None:
    """Attach, fuse and export in each family, with random weights and statistics."""
    print('network | change by attach | fused | change by fuse | by export | with attention shut')
    for name in FAMILIES:
        torch.manual_seed(0)
        model = DetectionModel(f'{name}.yaml', nc=len(CLASSES), verbose=False).train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1  # the statistics are the batch's
        with torch.no_grad():
            model(torch.rand(8, 3, size, size))
        x = torch.rand(1, 3, size, size)
        expected = raw(model.eval(), x)
        ean_mmdet.attach(model, 'EAN')
        attached = change(raw(model, x), expected)
        assert attached < 1e-5
        for module in eans(model):  # as if it had learned
            nn.init.normal_(module.alpha)
            nn.init.normal_(module.delta)
        print(f'{name} | {attached:.1e} | {fuse_and_export(model, x, folder)}', flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('bccd', type=Path)
    parser.add_argument('--model', default='yolo11n.yaml')
    parser.add_argument('--epochs', type=int, default=30)
    parser.add_argument('--size', type=int, default=96)
    parser.add_argument('--batch', type=int, default=8)
    parser.add_argument('--work-dir', type=Path, required=True)
    args = parser.parse_args()
    folder = args.work_dir.absolute()
    data = to_yolo(args.bccd, folder / 'data')
    print(f'ultralytics {__version__}, PyTorch {torch.__version__}', flush=True)
    families(folder)
    options = dict(
        data=str(data), imgsz=args.size, device='cpu', workers=0, plots=False, project=str(folder), exist_ok=True
    )  # fmt: skip

    weights = folder / 'trained.pt'
    if not weights.is_file():  # kept for the next time
        yolo = YOLO(args.model)
        yolo.train(epochs=args.epochs, batch=args.batch, name='plain', mosaic=0.0, val=False, cache=True, **options)
        shutil.copy(yolo.trainer.last, weights)
    plain = YOLO(weights)

    def metric(path: Path) -> tuple[float, float]:
        box = YOLO(path, task='detect').val(batch=1, rect=False, name='val', **options).box
        return float(box.map), float(box.map50)

    def saved(model: nn.Module, name: str) -> Path:
        torch.save({'model': copy.deepcopy(model), 'train_args': {}}, folder / name)
        return folder / name

    model = copy.deepcopy(plain.model).float()
    before = metric(saved(model, 'plain.pt'))
    print(ean_mmdet.attach(model, 'EAN'))
    after = metric(saved(model, 'attached.pt'))
    print(f'RESULT mAP, mAP50: plain {before}, with EAN {after}', flush=True)
    assert before == after and before[1] > 0.1

    class Trainer(DetectionTrainer):
        """Trains the model that has attention, where ultralytics would build one from a file of layers."""

        def get_model(self, cfg=None, weights=None, verbose=True):
            return model

    model.requires_grad_(True)
    trainer = Trainer(overrides=dict(model=args.model, epochs=2, batch=args.batch, name='ean', **options))
    trainer.train()
    trained = YOLO(trainer.last).model.float().eval()
    moved = sum(bool(module.alpha.any()) for module in eans(trained))
    print(f'RESULT {len(eans(trained))} EANs trained on, saved and loaded; α moved in {moved}')
    assert moved == len(eans(trained)) > 0
    print('RESULT fused | change by fuse | by export | with attention shut')
    print(f'RESULT {fuse_and_export(trained, torch.rand(1, 3, args.size, args.size), folder)}')

    found = {'trained on': metric(trainer.last)}
    # ultralytics' own way out, and its own way to evaluate what came out
    for form, more in (('torchscript', {}), ('onnx', dict(simplify=False))):
        path = YOLO(trainer.last).export(format=form, imgsz=args.size, device='cpu', **more)
        found[form] = metric(Path(path))
    print(f'RESULT mAP, mAP50: {found}')
    for form in ('torchscript', 'onnx'):
        assert all(abs(a - b) < 2e-3 for a, b in zip(found[form], found['trained on']))


if __name__ == '__main__':
    main()
