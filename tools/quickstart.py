"""A data set, a config for it, a detector and a page about it, each by the tool a user would take for it."""

import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image
from rich.console import Console

from ean_mmdet.table import Table

DATA = Path('data/sample')
CONFIG = Path('work_dirs/quickstart.py')
WORK_DIR = Path('work_dirs/quickstart')
# a network, an input and a schedule that two cores train in minutes
SMALL = ('--width', '0.5', '--input-size', '192', '--batch-size', '16', '--iterations', '320')
PICTURES = 6

console = Console()


def run(title: str, *command: str) -> float:
    """Run a tool in sight of the user; the seconds it took."""
    console.rule(title)
    console.print('$ python', shlex.join(command), style='bold', highlight=False)
    start = time.monotonic()
    code = subprocess.run([sys.executable, '-W', 'ignore', *command]).returncode
    if code:
        console.print(f'{title} failed; its output is above.', style='red')
        sys.exit(code)
    return time.monotonic() - start


def contact_sheet(folder: Path, file: Path) -> None:
    """The first pictures of a folder as one."""
    pictures = [Image.open(path) for path in sorted(folder.glob('*.jpg'))[:PICTURES]]
    width, height = pictures[0].size
    columns = 2
    sheet = Image.new('RGB', (columns * width, -(-len(pictures) // columns) * height), 'white')
    for index, picture in enumerate(pictures):
        sheet.paste(picture.resize((width, height)), (index % columns * width, index // columns * height))
    sheet.save(file, quality=90)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    drawing = run('Draw a sample data set', 'tools/make_sample_dataset.py', str(DATA))
    training = run(
        'From the folder to a detector with EAN',
        'tools/new_config.py', str(DATA), '--format', 'coco', '--attention', 'EAN', *SMALL, '--out', str(CONFIG),
        '--force', '--train', '--work-dir', str(WORK_DIR),
    )  # fmt: skip
    run_dir = max((WORK_DIR / 'test').glob('2*'))
    metrics = json.loads((run_dir / f'{run_dir.name}.json').read_text())
    sheet = WORK_DIR / 'detections.jpg'
    contact_sheet(run_dir / 'pictures', sheet)

    rows = [
        (name.removeprefix('coco/').removesuffix('_precision'), value)
        for name, value in metrics.items()
        if name.startswith('coco/')
    ]
    console.print(Table.of('COCO mAP on 100 validation images', ('metric', 'value'), rows).rich())
    console.print(f'Drawing the data took {drawing:.0f} s, all else {training:.0f} s.')
    for what, where in {
        'data, COCO and VOC format': DATA,
        'the config, written for it': CONFIG,
        'some images with their boxes': CONFIG.with_suffix('.jpg'),
        'ground truth (left) beside detections (right)': run_dir / 'pictures',
        'some of these in one picture': sheet,
    }.items():
        console.print(f'  {what}: [bold]{where}[/bold]', highlight=False, soft_wrap=True)


if __name__ == '__main__':
    main()
