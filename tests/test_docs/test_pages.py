"""What README and the pages say can be followed: links lead somewhere, commands have their options, Python runs."""

import ast
import re
import shlex

import pytest
import torchvision
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

import ean_mmdet
from ean_mmdet.attention import SimAM
from tests.conftest import ROOT

PAGES = sorted([*ROOT.glob('*.md'), *(page for page in ROOT.glob('docs/**/*.md') if page.name != 'tools.md')])
TOOLS = (ROOT / 'docs/reference/tools.md').read_text(encoding='utf-8')


def blocks(page, language):
    """The code blocks of a page."""
    return re.findall(rf'^```{language}\n(.*?)^```', page.read_text(encoding='utf-8'), re.DOTALL | re.MULTILINE)


def test_readme_is_short():
    assert len((ROOT / 'README.md').read_text(encoding='utf-8').split()) <= 900


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page):
    text = re.sub(r'```.*?```', '', page.read_text(encoding='utf-8'), flags=re.DOTALL)
    links = re.findall(r'\]\(([^)\s]+)\)', text)
    gone = [link for link in links if '://' not in link and not (page.parent / link.partition('#')[0]).exists()]
    assert gone == []


def commands():
    """Every command line of ours in the pages: (page, tool, its options)."""
    for page in PAGES:
        for block in blocks(page, 'bash'):
            for line in block.replace('\\\n', ' ').splitlines():
                words = shlex.split(line, comments=True)
                for place, word in enumerate(words):
                    if re.fullmatch(r'tools/\w+\.(py|sh)', word):
                        yield page.relative_to(ROOT), word, words[place + 1 :]


def options_of(tool):
    """What the tool's ``--help`` lists, by the reference."""
    section = re.search(rf'^## {re.escape(tool)}\n(.*?)(?=^## |\Z)', TOOLS, re.DOTALL | re.MULTILINE)
    return set(re.findall(r'--[a-z][\w-]*', section[1])) if section else None


def test_commands_have_their_options():
    wrong = []
    found = list(commands())
    for page, tool, words in found:
        options = options_of(tool.removeprefix('tools/'))
        if not (ROOT / tool).is_file():
            wrong.append(f'{page}: there is no {tool}')
        elif options is not None:
            given = {word.partition('=')[0] for word in words if word.startswith('--')}
            wrong += [f'{page}: {tool} has no {option}' for option in sorted(given - options)]
    assert wrong == [] and len(found) > 40


MARK = re.compile(r'<!-- (not run: .+|run by (?P<test>tests/\S+)) -->')


def python_blocks():
    """Each block of Python that no comment in front of it speaks for: (page, block)."""
    for page in PAGES:
        lines = page.read_text(encoding='utf-8').splitlines()
        for number, line in enumerate(lines):
            if line == '```python':
                block = '\n'.join(lines[number + 1 : lines.index('```', number)])
                mark = MARK.fullmatch(next(text for text in reversed(lines[:number]) if text))
                assert mark is None or mark['test'] is None or (ROOT / mark['test']).is_file(), (page, mark[0])
                if mark is None:
                    yield pytest.param(block, id=f'{page.relative_to(ROOT)}:{number + 1}')


@pytest.mark.parametrize('block', python_blocks())
def test_python(block, tmp_path, monkeypatch):
    """A config is one that builds, with the files of a clone beside it; other lines run, one after the other."""
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    if '_base_ =' in block:
        (tmp_path / 'config.py').write_text(block, encoding='utf-8')
        config = Config.fromfile(tmp_path / 'config.py')
        scope = 'mmpretrain' if 'head' in config.model and 'cls' in str(config.model.head.type).lower() else 'mmdet'
        with DefaultScope.overwrite_default_scope(scope):
            assert sum(parameter.numel() for parameter in MODELS.build(config.model).parameters()) > 0
        return
    resnet50 = torchvision.models.resnet50
    monkeypatch.setattr(torchvision.models, 'resnet50', lambda weights=None: resnet50())  # nothing is downloaded
    names = dict(ean_mmdet=ean_mmdet, MyAttention=SimAM)
    for statement in ast.parse(block).body:
        if 'model' not in names or 'attach(model' in ast.unparse(statement):
            names['model'] = resnet50()
        exec(compile(ast.Module([statement], []), '<block>', 'exec'), names)
    backbone = names.get('backbone') or (names['model'].get('backbone') if isinstance(names['model'], dict) else None)
    if backbone and 'type' in backbone:
        MODELS.build({key: value for key, value in backbone.items() if key != '_delete_'})
