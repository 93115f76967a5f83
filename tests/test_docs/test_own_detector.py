"""The notebook docs/own_detector.ipynb: its code runs, and what it shows is what it says."""

import re

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT

pytestmark = pytest.mark.slow

NOTEBOOK = ROOT / 'docs' / 'own_detector.ipynb'


def outputs(notebook, kind):
    """All outputs of a kind, text or data, in order."""
    found = [output for cell in notebook.cells for output in cell.get('outputs', ())]
    if kind == 'text':
        return ''.join(output.text for output in found if output.output_type == 'stream')
    return [output.data[kind] for output in found if kind in output.get('data', {})]


@pytest.mark.parametrize('again', [False, True], ids=['as stored', 'run again, briefly'])
def test_keeps_the_weights(again, tmp_path, monkeypatch):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    if again:
        monkeypatch.setenv('NOTEBOOK_ITERATIONS', '4')
        monkeypatch.setenv('NOTEBOOK_WORK_DIR', str(tmp_path))
        NotebookClient(notebook, timeout=300, resources=dict(metadata=dict(path=NOTEBOOK.parent))).execute()
    text = outputs(notebook, 'text')
    differences = dict(re.findall(r'(keys skipped|WarmStart): the largest difference .* is (\S+) of', text))
    assert float(differences['keys skipped']) > 0.02 and float(differences['WarmStart']) < 1e-5
    assert len(outputs(notebook, 'image/jpeg')) == 3
    (table,) = outputs(notebook, 'text/markdown')
    plain, skipped, warm = (float(value) for value in re.findall(r'\| (0\.\d{3}) \|', table))
    assert plain == warm
    if not again:  # a run of minutes, whose detector detects something
        assert warm > skipped + 0.1
    assert text.count('coco/bbox_mAP:') == 3  # plain, with EAN, and plain trained on
