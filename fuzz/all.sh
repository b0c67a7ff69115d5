#!/bin/sh
# Runs every built target: ./all.sh INPUTS [SECONDS]; prints a row of the README's table for each.
# FUZZ_BIN is the folder of the programs, ONLY a pattern of names, FUZZ_LOGS the folder of the logs.
cd "$(dirname "$0")" || exit 2
bin=${FUZZ_BIN:-target/x86_64-unknown-linux-gnu/release}
logs=${FUZZ_LOGS:-artifacts/logs}
mkdir -p "$logs"
# glibc keeps what is freed: giving it back after every input takes most of the time.
export MALLOC_TRIM_THRESHOLD_=1000000000 MALLOC_TOP_PAD_=100000000 MALLOC_MMAP_THRESHOLD_=1000000000

# corpus, target, longest input
while read -r corpus target length; do
    case $corpus in ${ONLY:-*}) ;; *) continue ;; esac
    [ -x "$bin/$target" ] || continue
    mkdir -p "corpus/$corpus" "artifacts/$corpus"
    "$bin/$target" "corpus/$corpus" -runs="$1" -max_total_time="${2:-0}" -max_len="$length" -timeout=${FUZZ_TIMEOUT:-10} -rss_limit_mb=2048 \
        -artifact_prefix="artifacts/$corpus/" -print_final_stats=1 >"$logs/$corpus.log" 2>&1 </dev/null &
    pid=$!
    wait $pid
    code=$?
    rm -rf "/dev/shm/asap-fuzz-$pid"
    inputs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$logs/$corpus.log")
    seconds=$(sed -n 's/^Done .* in \([0-9]*\) second.*/\1/p' "$logs/$corpus.log")
    echo "| $corpus | ${inputs:-?} | ${seconds:-?} | $([ $code = 0 ] && echo none || echo "exit $code") |"
done <<END
idx idx 300
cifar_binary cifar_binary 6200
cifar_python cifar_python 4096
npz npz 4096
npz_content npz_content 2048
mat mat 2048
mat_content mat_content 2048
parquet parquet 4096
packed packed 1024
packed_content packed_content 1024
list list 512
archive archive 8192
archive_content archive_content 8192
image_png image 1024
image_jpeg image 2048
image_gif image 1024
image_webp image 1024
image_bmp image 1024
image_tiff image 2048
image_pnm image 512
genotype genotype 2048
weights weights 4096
weights_content weights_content 2048
config config 4096
tabular tabular 2048
run_folder run_folder 8192
END
