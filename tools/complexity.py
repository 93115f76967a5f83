"""Print what a config's model costs stage by stage, or the paper's tables with our count beside the paper's figures.

It also writes what is made of them: the model zoo's page and the configs' metafiles.
"""

import argparse
import sys
from pathlib import Path

from mmengine.config import DictAction

import ean_mmdet  # noqa: F401, registers the modules
from ean_mmdet.analysis import metafiles, model_zoo, paper_table, stage_table
from ean_mmdet.engine import load_config, user_errors
from ean_mmdet.table import Table

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / 'configs'
MODEL_ZOO = ROOT / 'docs' / 'model_zoo.md'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument('config', nargs='?', help='path of a config, of any OpenMMLab library')
    what.add_argument(
        '--table', nargs='+', type=int, choices=[1, 2, 3, 4, 5], help='tables of the paper, by their numbers'
    )
    what.add_argument(
        '--model-zoo',
        nargs='?',
        const=MODEL_ZOO,
        type=Path,
        metavar='PATH',
        help=f'write the model zoo page (default: {MODEL_ZOO.relative_to(ROOT)})',
    )
    what.add_argument('--metafiles', action='store_true', help="write the configs' metafiles")
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        metavar=('HEIGHT', 'WIDTH'),
        help='size of the image for CONFIG (default: the size that the config tests on)',
    )
    parser.add_argument('--markdown', action='store_true', help='print Markdown')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='override settings of CONFIG'
    )
    args = parser.parse_args()
    if args.config is None and (args.shape or args.cfg_options):
        parser.error('--shape and --cfg-options go with a CONFIG')
    return args


def show(table: Table, markdown: bool) -> None:
    if markdown:
        print(f'## {table.title}\n\n{table.markdown()}')
    else:
        table.print()


def progress(name: str) -> None:
    print(f'counted {name}', file=sys.stderr, flush=True)


def main() -> None:
    args = parse_args()
    if args.config is not None:
        with user_errors():
            config = load_config(args.config, args.cfg_options)
            table = stage_table(config, Path(args.config).stem, args.shape and tuple(args.shape))
        show(table, args.markdown)
    elif args.table:
        for number in args.table:
            show(paper_table(number, CONFIGS, progress), args.markdown)
    elif args.metafiles:
        for path, text in metafiles(CONFIGS, progress).items():
            path.write_text(text, encoding='utf-8')
            print(f'wrote {path}')
    else:
        page = model_zoo(CONFIGS, progress)
        args.model_zoo.parent.mkdir(parents=True, exist_ok=True)
        args.model_zoo.write_text(page, encoding='utf-8')
        print(f'wrote {args.model_zoo}')


if __name__ == '__main__':
    main()
