"""What README and the pages say can be followed: links lead somewhere, commands have their options, Python compiles."""

import re
import shlex

import pytest

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


def test_python_compiles():
    for page in PAGES:
        for block in blocks(page, 'python'):
            compile(block, str(page), 'exec')
