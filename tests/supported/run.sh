#!/usr/bin/env bash
# The suite's core on a set of versions that README.md claims: install as README.md says, then run the tests of
# everything but analysis, deploy, report, search and the tools.
#   bash tests/supported/run.sh lowest|newest|onedl [arguments of pytest]
# The environment is .venv-NAME, kept for the next run; in it is a copy of the repository, as each environment compiles
# kernels of its own. Environment: PYTHON, and what tools/build_mmcv.py takes.
set -euo pipefail
cd "$(dirname "$0")/../.."
versions=tests/supported/${1:-}.txt
[ -f "$versions" ] || { sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2; }
name=$1
shift
# The versions are these, whatever pip is configured to.
export PIP_CONSTRAINT=$PWD/$versions PIP_DISABLE_PIP_VERSION_CHECK=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

venv=$PWD/.venv-$name
[ -x "$venv/bin/python" ] || "${PYTHON:-python$(sed -n '1s/.*Python //p' "$versions")}" -m venv "$venv"
python=$venv/bin/python
case $name in
    onedl) extras=onedl package=onedl-mmcv engine=onedl-mmengine ;;
    *) extras=mmdet,pretrain package=mmcv engine= ;;
esac
version=$(sed -n "s/^$package==//p" "$versions")
"$python" -m pip install -q torch torchvision setuptools wheel ninja psutil numpy $engine
wheels=$("$python" -W ignore tools/build_mmcv.py --package "$package" --version "$version")
rm -rf "$venv/src" && mkdir "$venv/src"
git ls-files -z | xargs -0 tar -c | tar -x -C "$venv/src"
cd "$venv/src"
"$python" -m pip install -q --find-links "$wheels" --no-build-isolation -e ".[$extras,analysis,test]" tensorboard
"$python" -m pip list 2>/dev/null | grep -iE '^(torch|torchvision|numpy|triton|mm|onedl)'
exec "$python" -W ignore -m pytest -q tests/test_norms tests/test_attention tests/test_ops tests/test_heads \
    tests/test_hooks tests/test_backbones tests/test_checkpoint tests/test_engine tests/test_datasets tests/test_configs \
    tests/test_tools/test_train_and_test.py "$@"
