"""The quickstart's steps, each by the tool a user would take for it, and their outcome in a table and a picture."""

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

CONFIG = 'configs/sample/ssdlite192_ean_mobilenext_sample.py'
DATA = Path('data/sample')
WORK_DIR = Path('work_dirs/quickstart')
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
    drawing = run('1. Draw the sample data set', 'tools/make_sample_dataset.py', str(DATA))
    training = run('2. Train EAN-MobileNeXt SSDLite', 'tools/train.py', CONFIG, '--work-dir', str(WORK_DIR))
    last = Path((WORK_DIR / 'last_checkpoint').read_text().strip())
    # fmt: off
    testing = run(
        '3. Evaluate on images it was not trained on',
        'tools/test.py', CONFIG, str(last), '--work-dir', str(WORK_DIR / 'test'), '--show-dir', 'pictures',
        '--out', str(WORK_DIR / 'predictions.json'),
        '--cfg-options', 'test_evaluator.classwise=True',
    )
    # fmt: on
    run('4. A page about it all', 'tools/report.py', str(WORK_DIR), '--base', CONFIG)
    run_dir = max((WORK_DIR / 'test').glob('2*'))
    metrics = json.loads((run_dir / f'{run_dir.name}.json').read_text())
    sheet = WORK_DIR / 'detections.jpg'
    contact_sheet(run_dir / 'pictures', sheet)

    console.rule('Done')
    rows = [
        (name.removeprefix('coco/').removesuffix('_precision'), value)
        for name, value in metrics.items()
        if name.startswith('coco/')
    ]
    console.print(Table.of('COCO mAP on 100 validation images', ('metric', 'value'), rows).rich())
    console.print(f'Drawing the data took {drawing:.0f} s, training {training:.0f} s, evaluation {testing:.0f} s.')
    for what, where in {
        'data, COCO and VOC format': DATA,
        'log, config and scalars': WORK_DIR,
        'trained checkpoint': last,
        'the page about it all, for a browser': WORK_DIR / 'report.html',
        'ground truth (left) beside detections (right)': run_dir / 'pictures',
        'some of these in one picture': sheet,
    }.items():
        console.print(f'  {what}: [bold]{where}[/bold]', highlight=False, soft_wrap=True)


if __name__ == '__main__':
    main()
