#!/usr/bin/env bash
# Checks what asap writes in the tools that read it: interop/check.sh onnx|pytorch|tensorboard|watch|speed
set -euo pipefail
cd "$(dirname "$0")/.."
tool=${1:-}
case $tool in
onnx | speed) packages="onnxruntime numpy" ;;
pytorch) packages="torch safetensors numpy" ;;
tensorboard) packages="tensorboard" ;;
watch) packages="selenium" ;;
*) echo "interop/check.sh: expected onnx, pytorch, tensorboard, watch or speed, found \`$tool\`" >&2; exit 2 ;;
esac

cargo build --release --locked
asap=target/release/asap
work=target/interop/$tool
rm -rf "$work/run" "$work/export"
mkdir -p "$work/export"
[ -x "$work/venv/bin/python" ] || python3 -m venv "$work/venv"
# shellcheck disable=SC2086
"$work/venv/bin/pip" install --quiet $packages
small="--set data.limit=400 --set network.channels=4 --set network.cells=3 --set network.nodes=2 --set search.epochs=3
    --set train.channels=4 --set train.cells=3 --set train.epochs=2"

case $tool in
tensorboard)
    # shellcheck disable=SC2086
    $asap run --no-final --out "$work/run" $small >/dev/null
    "$work/venv/bin/python" interop/check_tensorboard.py "$work"/run/search-* "$work"/run/train-*
    ;;
watch)
    "$work/venv/bin/python" interop/check_watch.py "$asap" "$work/run"
    ;;
speed)
    # The network of the paper's size; what it has learnt does not matter.
    $asap train --cell ASAP --out "$work/run" --set data.limit=120 --set train.channels=36 --set train.cells=20 \
        --set train.epochs=1 --set train.batch=32 >/dev/null
    "$work/venv/bin/python" interop/speed_onnx.py $asap "$work/run" "$work/export"
    ;;
*)
    nas_bench_201="|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"
    for cell in ASAP AmoebaNet SNAS_aggressive "$nas_bench_201"; do
        name=${cell//[^a-zA-Z0-9_]/}
        run=$work/run/$name
        $asap train --cell "$cell" --out "$run" --set train.channels=5 --set train.cells=4 \
            --set train.epochs=1 --set data.limit=600 --set data.size=27 >/dev/null
        "$work/venv/bin/python" "interop/check_$tool.py" $asap "$run" "$work/export/$name"
        "$work/venv/bin/python" "interop/check_$tool.py" $asap "$run" "$work/export/$name-flips" --flips
    done
    ;;
esac
