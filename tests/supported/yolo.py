"""EAN in a nano YOLO of ultralytics, through its whole life; see yolo.sh."""

import argparse
import copy
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import torch
from ultralytics import YOLO
from ultralytics.models.yolo.detect import DetectionTrainer

import ean_mmdet
from ean_mmdet.attention import EAN

CLASSES = ('RBC', 'WBC', 'Platelets')


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('bccd', type=Path)
    parser.add_argument('--model', default='yolo11n.yaml')
    parser.add_argument('--epochs', type=int, default=3)
    parser.add_argument('--size', type=int, default=320)
    parser.add_argument('--work-dir', type=Path, required=True)
    args = parser.parse_args()
    data = to_yolo(args.bccd, args.work_dir.absolute() / 'data')
    options = dict(
        data=str(data), imgsz=args.size, device='cpu', workers=0, plots=False, project=str(args.work_dir.absolute())
    )

    yolo = YOLO(args.model)
    yolo.train(epochs=args.epochs, name='plain', exist_ok=True, **options)
    plain = YOLO(yolo.trainer.last)

    def metric(model: torch.nn.Module) -> tuple[float, float]:
        shell = copy.deepcopy(plain)
        shell.model = model
        results = shell.val(batch=8, name='val', exist_ok=True, **options)
        return results.box.map, results.box.map50

    before = metric(copy.deepcopy(plain.model).float())
    model = copy.deepcopy(plain.model).float()
    print(ean_mmdet.attach(model, 'EAN'))
    after = metric(copy.deepcopy(model))
    print(f'mAP, mAP50: plain {before}, with EAN {after}')
    assert before == after

    class Trainer(DetectionTrainer):
        """Trains the model that has attention, where ultralytics would build one from a file of layers."""

        def get_model(self, cfg=None, weights=None, verbose=True):
            return model

    trainer = Trainer(overrides=dict(model=args.model, epochs=1, name='ean', exist_ok=True, **options), _callbacks=None)
    model.requires_grad_(True)
    trainer.train()
    trained = YOLO(trainer.last).model.float().eval()
    eans = [module for module in trained.modules() if isinstance(module, EAN)]
    print(f'{len(eans)} EANs trained on, saved and loaded; α moved in {sum(bool(e.alpha.any()) for e in eans)}')
    assert eans and all(module.alpha.any() for module in eans)

    x = torch.rand(1, 3, args.size, args.size)
    expected = trained(x)[0]
    fused = copy.deepcopy(trained).fuse(verbose=False)
    assert not any('bn' in name.split('.') for name, _ in fused.named_modules())
    print(f'fused, its output changed by {(fused(x)[0] - expected).abs().max() / expected.abs().max():.1e}')
    for module in fused.modules():
        if isinstance(module, EAN):
            torch.nn.init.constant_(module.delta, -100)
    shut = (fused(x)[0] - expected).abs().max() / expected.abs().max()
    print(f'with its attention shut, by {shut:.1e}')
    assert shut > 1e-5, 'the attention was lost'
    program = torch.export.export(copy.deepcopy(trained).fuse(verbose=False), (x,), strict=False)
    torch.export.save(program, args.work_dir / 'ean.pt2')
    change = (torch.export.load(args.work_dir / 'ean.pt2').module()(x)[0] - expected).abs().max()
    print(f'exported and loaded, its output changed by {change / expected.abs().max():.1e}')


if __name__ == '__main__':
    main()
