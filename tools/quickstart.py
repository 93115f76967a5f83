"""Draw the sample data set, and go from that folder to a detector and a page about it by tools/new_config.py."""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

from PIL import Image
from rich.console import Console

from ean_mmdet.table import Table

DATA = Path('data/sample')
CONFIG = Path('work_dirs/quickstart.py')
WORK_DIR = Path('work_dirs/quickstart')
PICTURES = 6

console = Console()


def run(title: str, *command: str) -> None:
    """Run a tool in sight of the user."""
    console.rule(title)
    console.print('$ python', shlex.join(command), style='bold', highlight=False)
    code = subprocess.run([sys.executable, '-W', 'ignore', *command]).returncode
    if code:
        console.print(f'{title} failed; its output is above.', style='red')
        sys.exit(code)


def contact_sheet(folder: Path, file: Path) -> None:
    """Put the first pictures of a folder into one."""
    pictures = [Image.open(path) for path in sorted(folder.glob('*.jpg'))[:PICTURES]]
    width, height = pictures[0].size
    columns = 2
    sheet = Image.new('RGB', (columns * width, -(-len(pictures) // columns) * height), 'white')
    for index, picture in enumerate(pictures):
        sheet.paste(picture.resize((width, height)), (index % columns * width, index // columns * height))
    sheet.save(file, quality=90)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    run('Draw the sample data set', 'tools/make_sample_dataset.py', str(DATA))
    # small images and a short schedule, so that it takes minutes on a CPU
    # fmt: off
    run(
        'From the folder to a detector',
        'tools/new_config.py', str(DATA), '--format', 'coco', '--detector', 'ssdlite', '--attention', 'EAN',
        '--input-size', '192', '--batch-size', '8', '--iterations', '320', '--no-rehearsal',
        '--out', str(CONFIG), '--force', '--work-dir', str(WORK_DIR), '--train',
    )
    # fmt: on
    run_dir = max((WORK_DIR / 'test').glob('2*'))
    metrics = json.loads((run_dir / f'{run_dir.name}.json').read_text())
    sheet = WORK_DIR / 'detections.jpg'
    contact_sheet(run_dir / 'pictures', sheet)
    console.rule('What came out')
    rows = [
        (name.removeprefix('coco/').removesuffix('_precision'), value)
        for name, value in metrics.items()
        if name.startswith('coco/')
    ]
    console.print(Table.of('COCO mAP on 100 validation images', ('metric', 'value'), rows).rich())
    for what, where in {
        'data, COCO and VOC format': DATA,
        'ground truth (left) beside detections (right)': run_dir / 'pictures',
        'some of these in one picture': sheet,
    }.items():
        console.print(f'  {what}: [bold]{where}[/bold]', highlight=False, soft_wrap=True)


if __name__ == '__main__':
    main()
