"""Does this attention module help on my data? Trains a config without and with it over several seeds, and tells.

All networks see the same images, augmented alike, in the same order. Run again, it goes on where it was stopped.
"""

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

import ean_mmdet  # noqa: F401, registers the modules
from ean_mmdet import engine
from ean_mmdet.datasets import check_data
from ean_mmdet.errors import InputError
from ean_mmdet.evaluation import comparison, trials, variants
from ean_mmdet.evaluation.estimate import estimate
from ean_mmdet.evaluation.page import Section, page
from ean_mmdet.evaluation.pictures import figure_url
from ean_mmdet.evaluation.results import tested_shape
from ean_mmdet.files import make_folder, write_atomically, write_text
from ean_mmdet.table import Table

console = Console(width=None if sys.stdout.isatty() else 200)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', nargs='?', help='config of a detector or a classifier')
    parser.add_argument(
        '--attention',
        nargs='+',
        default=['none', 'EAN', 'SE', 'CA'],
        metavar='SPEC',
        help='networks, the first is what the others are compared with: none, EAN, "EAN(groups=8)", '
        '"NAME=SE(ratio=16, shared=\'stage\')", or NAME=CONFIG.py (default: none EAN SE CA)',
    )
    parser.add_argument(
        '--controls',
        nargs='+',
        default=[],
        choices=variants.CONTROLS,
        help='; '.join(f'{name}: {text}' for name, text in variants.CONTROLS.items()),
    )
    parser.add_argument('--seeds', type=int, default=5, help='number of seeds: 0, 1, 2, … (default: 5)')
    parser.add_argument(
        '--warm-start',
        metavar='CHECKPOINT',
        help='backbone that all networks start from, which then compute what it computes; {network} and {seed} in it '
        "stand for a run's (default: the config's start)",
    )
    parser.add_argument(
        '--scratch', action='store_true', help='start all networks from nothing, whatever the config says'
    )
    parser.add_argument(
        '--learning-rates',
        nargs='+',
        type=float,
        metavar='RATE',
        help='choose among these first, on nine tenths of the training images, judged on a tenth of them',
    )
    parser.add_argument(
        '--rate-by',
        choices=['plain', 'each'],
        default='plain',
        help='plain: by the first network alone; each: by every network, with the same budget (default: plain)',
    )
    parser.add_argument('--metric', help='the metric (default: coco/bbox_mAP or accuracy/top1, else the first)')
    parser.add_argument('--jobs', type=int, default=1, help='runs at a time (default: 1)')
    parser.add_argument('--launcher', choices=['none', 'torchrun', 'slurm'], default='none', help='what starts a run')
    parser.add_argument('--gpus', type=int, default=1, help='processes of a run, of torchrun (default: 1)')
    parser.add_argument('--partition', default='', help='partition of Slurm; GPUS and the like as for slurm_train.sh')
    parser.add_argument('--work-dir', type=Path, help='folder (default: work_dirs/compare_CONFIG)')
    parser.add_argument('--dry-run', action='store_true', help='print the runs and how long they will take, no more')
    parser.add_argument(
        '--logs',
        nargs='+',
        type=Path,
        metavar='LOG',
        help='instead of training: compare logs of mmengine called KIND_NETWORK_seedN.json, over the seeds alone',
    )
    parser.add_argument('--reference', default='plain', help='network to compare --logs with (default: plain)')
    parser.add_argument('--cfg-options', nargs='+', action=engine.arguments.DictAction, metavar='KEY=VALUE',
                        help='override settings of the config')  # fmt: skip
    args = engine.parse(parser)
    if bool(args.config) == bool(args.logs):
        parser.error('give either a config or --logs')
    if args.logs and not args.metric:
        parser.error('--logs needs --metric')
    if args.warm_start and args.scratch:
        parser.error('--warm-start and --scratch exclude each other')
    if args.launcher == 'slurm' and not args.partition:
        parser.error('--launcher slurm needs --partition')
    for name in ('seeds', 'jobs', 'gpus'):
        if getattr(args, name) < 1:
            parser.error(f'--{name} takes a number from 1 on')
    if args.config:
        args.work_dir = args.work_dir or Path('work_dirs', f'compare_{Path(args.config).stem}')
    return args


def networks(args: argparse.Namespace) -> list[variants.Variant]:
    """The networks, with the same start."""
    config = engine.load_config(args.config, args.cfg_options)
    for key in ('train_dataloader', 'test_dataloader', 'test_evaluator'):
        if not config.get(key):
            raise InputError(f'{args.config} has no {key}: a comparison trains and tests')
    made = variants.make_variants(config, [variants.parse_spec(text) for text in args.attention], args.controls)
    for variant in made:
        backbone = variant.config.model.backbone
        if args.scratch or args.warm_start:
            for part in (variant.config.model, backbone, backbone.get('backbone') or {}):
                part.pop('init_cfg', None)
        if args.warm_start:
            start = dict(type='WarmStart', checkpoint=args.warm_start)
            (backbone.backbone if backbone.type == 'WithAttention' else backbone).init_cfg = start
        start = (backbone.get('init_cfg') or {}).get('checkpoint')
        if variant.name.startswith('wider-') and start and '{network}' not in start:
            raise InputError(
                f'--controls wider: no wider backbone fits {start}, which the others start from; compare it from '
                f'--scratch, or give {{network}} in --warm-start'
            )
    return made


def run(todo: Sequence[trials.Trial], launcher: trials.Launcher, title: str) -> dict[str, Path]:
    """Run what isn't done, in sight of the user; the logs of what failed."""
    begin, before = time.monotonic(), sum(trial.share() for trial in todo)
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        TextColumn('{task.percentage:>3.0f} %'),
        TimeElapsedColumn(),
    )
    with Progress(*columns, TextColumn('{task.fields[left]}'), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=len(todo), left='')

        def progress(line: str | None) -> None:
            share = sum(trial.share() for trial in todo)
            rate = (share - before) / (time.monotonic() - begin)
            left = f'{(len(todo) - share) / rate / 60:.0f} min left' if rate > 0 else ''
            bar.update(task, completed=share, left=left)
            if line:
                done = sum(trial.done_file.is_file() for trial in todo)
                console.print(f'{time.strftime("%T")} {line} ({done} of {len(todo)} runs done{left and ", " + left})')

        runner = trials.Runner(launcher, progress)
        runner.run(todo)
    return runner.failed


def costs(made: Sequence[variants.Variant]) -> dict[str, dict[str, str]]:
    """Parameters and operations of each network."""
    from ean_mmdet.analysis import count_model

    found = {}
    for variant in made:
        complexity = count_model(engine.build_model(variant.config), tested_shape(variant.config)).count()
        found[variant.name] = {
            'params': f'{complexity.params:,}',
            'operations': f'{complexity.operations / 1e6:,.1f} M',
        }
    return found


def write(
    args: argparse.Namespace, result: comparison.Comparison, todo: Sequence[trials.Trial], rates: Table | None
) -> None:
    """The table as Markdown and JSON, the plot, and the page."""
    folder, table = args.work_dir, result.table()
    figure = result.figure()
    protocol = trials.protocol(todo[0])
    write_text(
        folder / 'comparison.md', table.markdown() + '\n' + '\n'.join(f'- {line}' for line in result.words()) + '\n'
    )
    write_text(folder / 'comparison.json', json.dumps(result.data() | dict(protocol=protocol), indent=1))
    write_atomically(folder / 'comparison.png', lambda path: figure.savefig(path, format='png', dpi=130))
    sections = [Section('Result', [('table', table), *(('text', line) for line in result.words())])]
    sections[0].add('picture', (figure_url(figure), f'Differences in {result.metric}'))
    if rates:
        sections.append(Section('Learning rates', [('table', rates)]))
    rows = [
        (trial.variant, trial.seed, 'done' if done else 'missing',
         f'{done["seconds"] / 60:.1f}' if done and done['seconds'] else '–',
         ', '.join(f'{name} {value:.4g}' for name, value in done['metrics'].items()) if done else '–')
        for trial in todo
        for done in [trial.done()]
    ]  # fmt: skip
    sections.append(Section('Runs', [('table', Table.of('', ('network', 'seed', '', 'minutes', 'test'), rows))]))
    told = Section('Protocol', [('text', shell())])
    settings = [
        (part, key, value[:100])
        for part, values in protocol.items()
        for key, value in values.items()
        if part != 'network'
    ]
    told.add(
        'table', Table('', ('part', 'setting', 'value'), tuple(s for s in settings if s[0] in ('versions', 'code')))
    )
    told.add('folded', ('Data and schedule', '\n'.join(f'{key} = {value}' for part, key, value in settings)))
    sections.append(told)
    write_text(folder / 'comparison.html', page(f'Comparison: {Path(args.config).stem}', sections))


def shell() -> str:
    import shlex

    return 'python tools/compare.py ' + shlex.join(sys.argv[1:])


def show_logs(args: argparse.Namespace) -> None:
    """The table of logs alone."""
    result = comparison.compare_logs(args.logs, args.metric, args.reference)
    print(result.table().markdown())
    print('\n'.join(f'- {line}' for line in result.words()))


def plan(args: argparse.Namespace, made: Sequence[variants.Variant], todo: Sequence[trials.Trial]) -> None:
    """Print the runs and how long they will take."""
    seconds = {variant.name: estimate(variant.config) for variant in made}
    for trial in todo:  # what runs took is a better guide
        done = trial.done()
        if done and done['seconds']:
            seconds[trial.variant] = done['seconds']
    rows = []
    for name in dict.fromkeys(trial.variant for trial in todo):
        mine = [trial for trial in todo if trial.variant == name]
        done = sum(trial.done_file.is_file() for trial in mine)
        left = sum(1 - trial.share() for trial in mine) * seconds[name]
        rows.append((name, len(mine), done, f'{seconds[name] / 60:.1f}', f'{left / 60:.1f}'))
    total = sum(float(row[4]) for row in rows) / args.jobs
    note = f'{total:.0f} minutes in all with {args.jobs} at a time, in {args.work_dir}.'
    Table.of('Plan', ('network', 'runs', 'done', 'minutes a run', 'minutes left'), rows, [note]).print()


def compare(args: argparse.Namespace, made: Sequence[variants.Variant]) -> bool:
    """Run what isn't done, compare, and write what comes of it; whether all runs are done."""
    todo, rates = trials.make_trials(made, range(args.seeds), args.work_dir), None
    tuned = made[:1] if args.rate_by == 'plain' else made
    pilots = trials.make_pilots(tuned, args.learning_rates, args.work_dir) if args.learning_rates else []
    if args.dry_run:
        plan(args, made, [*pilots, *todo])
        return True
    check_data(made[0].config)
    make_folder(args.work_dir)
    launcher = trials.Launcher(args.launcher, args.jobs, args.gpus, args.partition, Path(__file__).resolve().parent)
    if pilots:
        trials.check_protocols(pilots)
        failed = run(pilots, launcher, 'Learning rates')
        chosen, rates = comparison.choose_rates(pilots, args.metric, args.rate_by == 'each', failed)
        rates.print()
        rate = {variant.name: chosen.get(variant.name, chosen[made[0].name]) for variant in made}
        todo = trials.make_trials(made, range(args.seeds), args.work_dir, rate)
    trials.check_protocols(todo)
    failed = run(todo, launcher, 'Runs')
    result = comparison.compare_trials(todo, args.metric, failed, costs(made))
    write(args, result, todo, rates)
    result.table().print()
    for line in result.words():
        console.print(f'- {line}', highlight=False)
    for file in ('comparison.md', 'comparison.json', 'comparison.png', 'comparison.html'):
        print(f'wrote {args.work_dir / file}')
    return not any(outcome.missing for outcome in result.outcomes)


def main() -> None:
    args = parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl+C: what runs is ended too
    try:
        with engine.user_errors():
            if args.logs:
                show_logs(args)
                return
            made = networks(args)
        with engine.user_errors(args.work_dir):
            whole = compare(args, made)
    except KeyboardInterrupt:
        console.print('stopped; the same command goes on from the last checkpoints')
        sys.exit(130)
    sys.exit(0 if whole else 1)


if __name__ == '__main__':
    main()
