#!/usr/bin/env bash
# Compares an exported network with ours: interop/check.sh onnx|pytorch
set -euo pipefail
cd "$(dirname "$0")/.."
tool=${1:?onnx or pytorch}
case $tool in
onnx) packages="onnxruntime numpy" ;;
pytorch) packages="torch safetensors numpy" ;;
*) echo "interop/check.sh: expected onnx or pytorch, found $tool" >&2; exit 2 ;;
esac

cargo build --release --locked
work=target/interop/$tool
rm -rf "$work/run" "$work/export"
mkdir -p "$work/export"
[ -x "$work/venv/bin/python" ] || python3 -m venv "$work/venv"
# shellcheck disable=SC2086
"$work/venv/bin/pip" install --quiet $packages

for cell in ASAP AmoebaNet SNAS_aggressive; do
    run=$work/run/$cell
    target/release/asap train --cell "$cell" --out "$run" --set train.channels=5 --set train.cells=4 \
        --set train.epochs=1 --set data.limit=600 --set data.size=27 >/dev/null
    "$work/venv/bin/python" "interop/check_$tool.py" target/release/asap "$run" "$work/export/$cell"
done
