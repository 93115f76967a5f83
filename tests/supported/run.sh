#!/usr/bin/env bash
# The suite's core on a set of versions that README.md claims: install as README.md says, then run the tests of
# everything but analysis, deploy, report, search and the tools.
#   bash tests/supported/run.sh lowest|newest|onedl|no_compiler [arguments of pytest]
# no_compiler has mmcv-lite, installs from a wheel and sees no cc, c++ or nvcc; the others compile mmcv, and compare its
# operators with ours. The environment is .venv-NAME, kept for the next run; in it is a copy of the repository, as each
# environment compiles kernels of its own. Environment: PYTHON, and what tools/build_mmcv.py takes.
set -euo pipefail
cd "$(dirname "$0")/../.."
versions=tests/supported/${1:-}.txt
[ -f "$versions" ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }
name=$1
shift
# The versions are these, whatever pip is configured to.
export PIP_CONSTRAINT=$PWD/$versions PIP_DISABLE_PIP_VERSION_CHECK=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

# hide_compilers FOLDER: fill it with links to all commands but compilers, and make it the PATH.
hide_compilers() {
    local folder command
    mkdir -p "$1"
    IFS=: read -ra folders <<<"$PATH"
    for folder in "${folders[@]}"; do
        for command in "$folder"/*; do
            case ${command##*/} in
                cc | c++ | *gcc* | *g++* | *clang* | *nvcc* | cpp* | c89* | c99* | *-cc | *-cpp*) ;;
                *) ln -s "$command" "$1/" 2>/dev/null || true ;;  # the first of a name counts
            esac
        done
    done
    PATH=$1
    for command in cc c++ gcc g++ clang nvcc; do
        ! command -v "$command" >/dev/null || { echo "error: $command is still on the PATH" >&2; exit 1; }
    done
}

venv=$PWD/.venv-$name
[ -x "$venv/bin/python" ] || "${PYTHON:-python$(sed -n '1s/.*Python //p' "$versions")}" -m venv "$venv"
python=$venv/bin/python
rm -rf "$venv/src" && mkdir "$venv/src"
git ls-files -z | xargs -0 tar -c | tar -x -C "$venv/src"
parity=
case $name in
    no_compiler)
        hide_compilers "$venv/path"
        wheel=$venv/wheel
        rm -rf "$wheel"
        "$python" -m pip install -q torch torchvision 'setuptools>=70.1' numpy
        "$python" -m pip wheel -q --no-deps --no-build-isolation -w "$wheel" "$venv/src"
        "$python" -m pip install -q "$(ls "$wheel"/*-py3-none-any.whl)[mmdet,pretrain,analysis,test]" tensorboard
        # that is the whole installation, whatever is imported first
        (cd / && "$python" -W ignore -c 'import sys, mmdet.apis; print(sys.modules["mmcv._ext"].__file__)')
        ;;
    *)
        package=mmcv extras=mmdet,pretrain engine=
        [ "$name" != onedl ] || package=onedl-mmcv extras=onedl engine=onedl-mmengine
        version=$(sed -n "s/^$package==//p" "$versions")
        "$python" -m pip install -q torch torchvision 'setuptools>=70.1' wheel ninja psutil numpy $engine
        wheels=$("$python" -W ignore tools/build_mmcv.py --package "$package" --version "$version")
        "$python" -m pip install -q --find-links "$wheels" --no-build-isolation \
            -e "$venv/src[$extras,analysis,own_data,test]" tensorboard
        # mmcv-lite, of the extra mmdet, has the same files
        "$python" -m pip uninstall -q -y mmcv-lite
        "$python" -m pip install -q --force-reinstall --no-deps --find-links "$wheels" "$package==$version"
        parity=tests/supported/compiled_mmcv.py
        ;;
esac
cd "$venv/src"
"$python" -m pip list 2>/dev/null | grep -iE '^(torch|torchvision|numpy|triton|mm|onedl)'
# shellcheck disable=SC2086
exec "$python" -W ignore -m pytest -q tests/test_mmcv_ops $parity tests/test_norms tests/test_attention tests/test_ops \
    tests/test_heads tests/test_hooks tests/test_backbones tests/test_checkpoint tests/test_engine tests/test_datasets \
    tests/test_configs tests/test_tools/test_train_and_test.py "$@"
