#!/usr/bin/env bash
# The parts of layerjoule's GPU runs, on a machine with a GPU and no Rust. `./run.sh` says how.
set -euo pipefail

BUNDLE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
PART_SCHEMA="layerjoule.gpu-part/1"
# A missing GPU is a failure here, never a reason to skip.
export REQUIRE_GPU=1
export LC_ALL=C PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

# Seconds of one part; the last of them are kept for its archive.
PART_S="${PART_S:-480}"
RESERVE_S="${RESERVE_S:-15}"
# Seconds in all of `run.sh all`; without a number there is no limit.
BUDGET_S="${BUDGET_S:-}"
ROUNDS="${ROUNDS:-3}"
BATCH="${BATCH:-64}"

OK=0 FAILED=1 USAGE=2 UNFINISHED=4

PARTS=(facts doctor conformance faults energy torch resnet50-bf16 resnet50-bf16-again resnet50-tf32 resnet50-tf32-again vgg16)

# Seconds that a part takes on one H200, estimated and not measured; what it proves.
describe() {
    case "$1" in
        facts) echo "400 what the board's sensors can see, PyTorch's layer times: device_facts.py, part 0" ;;
        doctor) echo "30 driver, CUDA, cuDNN and NVML are found and work" ;;
        conformance) echo "240 every kind, precision and layout against the f64 reference" ;;
        faults) echo "200 out of memory, wrong devices and arguments, an interrupted run that goes on" ;;
        energy) echo "60 joules of one 20 s window by our meter and by Python: within 0.5 %" ;;
        torch) echo "420 conv and linear layers in turns with PyTorch: geometric mean at most 1.05" ;;
        resnet50-bf16) echo "400 ResNet-50, bf16, NHWC: joules per layer, closure, pictures" ;;
        resnet50-bf16-again) echo "400 the same with another seed: both agree within their intervals" ;;
        resnet50-tf32) echo "400 ResNet-50, tf32, NCHW: joules per layer, closure, pictures" ;;
        resnet50-tf32-again) echo "400 the same with another seed: both agree within their intervals" ;;
        vgg16) echo "300 VGG-16, bf16, NHWC: joules per layer, closure, pictures" ;;
        *) return 1 ;;
    esac
}

usage() {
    cat <<TEXT
Usage: run.sh PART [OUT]      one part; leaves OUT/part-PART.tar.gz
       run.sh all [OUT]       all parts that fit into BUDGET_S seconds, one after the other
       run.sh resnet50 [OUT]  the four parts of that name, likewise
       run.sh list            the parts, the seconds that they take, and what they prove

OUT is results/ beside this file unless given. A part ends after PART_S seconds (480) at the latest; the same
command goes on where it ended, also from its archive in OUT. Exit codes: 0 all is well; 1 something failed;
2 wrong usage; 4 the time ran out, give the same command again.
TEXT
}

say() { printf '%s\n' "$*" >&2; }
die() { say "run.sh: $1"; exit "${2:-$FAILED}"; }

# ---------------------------------------------------------------------------------------------------------------------
# Steps: each is done once, has a log and a line in steps.tsv (name, status, exit code, seconds, command, reason).

remaining() { echo $((DEADLINE - SECONDS)); }

record() { # NAME STATUS CODE SECONDS REASON COMMAND
    # One line a step: that of an earlier call gives way.
    grep -v -e "^$1"$'\t' "$WORK/steps.tsv" >"$WORK/steps.tmp"
    printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" "$6" "$5" >>"$WORK/steps.tmp"
    mv "$WORK/steps.tmp" "$WORK/steps.tsv"
    if [[ -n $5 ]]; then say "$2 $1 ($4 s): $5"; else say "$2 $1 ($4 s)"; fi
    case "$2" in
        FAILED) WORST=$FAILED ;;
        skipped) [[ $WORST == "$FAILED" ]] || WORST=$UNFINISHED ;;
    esac
}

done_before() { [[ -e "$WORK/done/$1" ]]; }

# Runs a command as a step: STEP_IN as standard output's file where set, else the log. Status in STEP_STATUS.
# A step whose time runs out is told so by SIGTERM, on which layerjoule keeps its finished windows.
step() { # NAME EXPECTED_CODE COMMAND...
    local name="$1" expected="$2" begin=$SECONDS code=0 left reason="" command
    shift 2
    printf -v command '%q ' "$@"
    command="${command% }"
    command="${command//"$WORK"/WORK}"
    STEP_STATUS=ok
    if done_before "$name"; then
        say "ok $name (done before)"
        return 0
    fi
    left=$(($(remaining) - RESERVE_S))
    if ((left <= 0)); then
        STEP_STATUS=skipped
        record "$name" skipped - 0 "the part's time of $PART_S s is over; the same command goes on" "$command"
        return 0
    fi
    say "   $name: $command"
    timeout --signal=TERM --kill-after=10 "$left" "$@" \
        >"${STEP_OUT:-$WORK/logs/$name.log}" 2>"$WORK/logs/$name.err" </dev/null &
    CHILD=$!
    wait "$CHILD" || code=$?
    CHILD=""
    if ((SECONDS - begin >= left)) && ((code != expected)); then
        STEP_STATUS=unfinished
        record "$name" skipped "$code" $((SECONDS - begin)) "the time limit of $left s ran out; the same command goes on" "$command"
    elif ((code != expected)); then
        reason="exit code $code instead of $expected"
        STEP_STATUS=FAILED
    elif grep -q 'panicked at' "$WORK/logs/$name.err"; then
        reason="it panicked"
        STEP_STATUS=FAILED
    elif [[ -n ${STEP_SAYS:-} ]] && ! grep -qE -- "$STEP_SAYS" "$WORK/logs/$name.err"; then
        reason="its message does not say /$STEP_SAYS/"
        STEP_STATUS=FAILED
    else
        : >"$WORK/done/$name"
        record "$name" ok "$code" $((SECONDS - begin)) "" "$command"
    fi
    if [[ $STEP_STATUS == FAILED ]]; then
        record "$name" FAILED "$code" $((SECONDS - begin)) "$reason; logs/$name.err ends with: $(last_words "$name")" "$command"
    fi
    archive
}

last_words() { tail -n 1 "$WORK/logs/$1.err" | tr '\t' ' ' | cut -c 1-300 | sed "s|$WORK|WORK|g"; }

# A step whose message on standard error is checked too.
refusal() { # NAME EXPECTED_CODE MESSAGE COMMAND...
    local name="$1" expected="$2"
    STEP_SAYS="$3"
    shift 3
    step "$name" "$expected" "$@"
    STEP_SAYS=""
}

# A step whose standard output is a result.
result() { # NAME FILE COMMAND...
    local name="$1"
    STEP_OUT="$WORK/results/$2"
    shift 2
    mkdir -p "$(dirname "$STEP_OUT")"
    step "$name" 0 "$@"
    STEP_OUT=""
}

skip() { record "$1" skipped - 0 "$2" ""; }

needs() { # STEP FILE: fails the step where the bundle lacks a file
    [[ -e $2 ]] && return 0
    record "$1" FAILED - 0 "$2 is not in this bundle; pack it again with it" ""
    return 1
}

# ---------------------------------------------------------------------------------------------------------------------
# Archives

# Whatever is finished, at any time: one archive that appears whole or not at all.
archive() {
    local status=ok
    [[ $WORST == "$OK" ]] || status=unfinished
    [[ $WORST != "$FAILED" ]] || status=FAILED
    [[ $ENDED == yes || $status == FAILED ]] || status=unfinished
    {
        printf 'schema\t%s\n' "$PART_SCHEMA"
        printf 'part\t%s\n' "$PART"
        printf 'status\t%s\n' "$status"
        printf 'started\t%s\n' "$(cat "$WORK/started")"
        printf 'ended\t%s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)"
        printf 'manifest_sha256\t%s\n' "$MANIFEST_SHA256"
    } >"$WORK/part.tsv"
    (
        cd "$WORK"
        find . -type f ! -path ./SHA256SUMS ! -name '.layerjoule-*' -printf '%P\n' | sort | tr '\n' '\0' | xargs -0 sha256sum >SHA256SUMS
        tar -czf "$OUT/.part-$PART.tmp" --owner=0 --group=0 --exclude='.layerjoule-*' ./*
    )
    mv "$OUT/.part-$PART.tmp" "$OUT/part-$PART.tar.gz"
}

# Goes on from the archive in OUT where the working folder is gone with its machine.
restore() {
    local archive="$OUT/part-$PART.tar.gz" found
    [[ -e $archive && ! -e $WORK/started ]] || return 0
    found="$(tar -xzOf "$archive" ./MANIFEST.json | sha256sum | cut -d ' ' -f 1)" || die "$archive is no archive of a part"
    [[ $found == "$MANIFEST_SHA256" ]] || die "$archive is of another bundle; move it away or give another OUT" "$USAGE"
    tar -xzf "$archive" -C "$WORK" --no-same-owner
    say "   going on from $archive"
}

# What the machine is, as far as a result depends on it. Only variables that name libraries and devices.
environment() {
    local to="$WORK/environment"
    mkdir -p "$to"
    nvidia-smi -q >"$to/nvidia-smi-q.txt" 2>&1 || true
    nvidia-smi --query-gpu=name,driver_version,memory.total,power.limit,clocks.max.sm,mig.mode.current \
        --format=csv,noheader >"$to/gpus.csv" || true
    { uname -srm; getconf GNU_LIBC_VERSION; cat /etc/os-release; lscpu; } >"$to/host.txt" 2>/dev/null || true
    env | grep -E '^(CUDA|CUDNN|NVIDIA|LD_LIBRARY_PATH|LAYERJOULE)' | sort >"$to/variables.txt" || true
    python3 ./python/versions.py >"$to/python.json" 2>"$to/python.err" || true
    timeout 60 ./bin/layerjoule doctor --format json >"$to/doctor.json" 2>"$to/doctor.err" || true
}

preflight() {
    local needed
    sha256sum --quiet -c SHA256SUMS || die "the bundle is damaged; unpack it again"
    command -v python3 >/dev/null || die "python3 is not there"
    command -v nvidia-smi >/dev/null || die "nvidia-smi is not there: no NVIDIA driver, and REQUIRE_GPU=1"
    nvidia-smi -L 2>&1 | grep -q '^GPU 0' || die "nvidia-smi -L shows no GPU, and REQUIRE_GPU=1"
    needed="$(sed -n 's/.*"glibc": *"\([0-9.]*\)".*/\1/p' ./MANIFEST.json)"
    ./bin/layerjoule --version >/dev/null 2>&1 ||
        die "bin/layerjoule does not start here; it needs an x86-64 Linux with glibc ${needed:-?} or newer, this is $(getconf GNU_LIBC_VERSION)"
    # The wheels of PyTorch bring CUDA's libraries: their folder comes first unless another is named.
    if [[ -z ${LAYERJOULE_CUDA_PATH:-} ]]; then
        LAYERJOULE_CUDA_PATH="$(python3 ./python/versions.py --cuda-path)"
        if [[ -n $LAYERJOULE_CUDA_PATH ]]; then export LAYERJOULE_CUDA_PATH; else unset LAYERJOULE_CUDA_PATH; fi
    fi
}

# ---------------------------------------------------------------------------------------------------------------------
# Parts

part_facts() {
    needs device-facts python/device_facts.py || return 0
    step device-facts 0 python3 ./python/device_facts.py "$WORK/results/facts"
}

part_doctor() {
    # In a folder, so that `collect` does not file it: it names places of this machine.
    result doctor doctor/doctor.txt ./bin/layerjoule doctor
    result doctor-json doctor/doctor.json ./bin/layerjoule doctor --format json
    step doctor-works 0 python3 ./python/checks.py doctor "$WORK/results/doctor/doctor.json"
}

part_conformance() {
    needs conformance bin/gpu_conformance || return 0
    local precision
    for precision in f32 tf32 f16 bf16; do
        result "conformance-$precision" "conformance-$precision.txt" ./bin/gpu_conformance --precision "$precision"
    done
}

part_faults() {
    local run=(./bin/layerjoule profile) lenet=./networks/lenet5.toml out="$WORK/results/faults"
    mkdir -p "$out" "$WORK/empty"
    refusal out-of-memory 3 '--batch [0-9]|batch of [0-9]|[0-9]+ would fit' \
        "${run[@]}" ./networks/vgg16.toml --device cuda --batch 16384 --out "$out/memory"
    refusal no-such-gpu 3 'cuda:99|GPU' "${run[@]}" "$lenet" --device cuda:99 --out "$out/no-gpu"
    refusal hidden-gpu 3 '.' env CUDA_VISIBLE_DEVICES= "${run[@]}" "$lenet" --device cuda --out "$out/hidden"
    refusal wrong-precision 2 'precision' "${run[@]}" "$lenet" --device cuda --precision f8 --out "$out/precision"
    refusal wrong-layout 2 'layout' "${run[@]}" "$lenet" --device cuda --layout chwn --out "$out/layout"
    refusal wrong-device 2 'device' "${run[@]}" "$lenet" --device gpu --out "$out/device"
    refusal empty-cuda-path 2 '.' "${run[@]}" "$lenet" --device cuda --cuda-path "$WORK/empty" --out "$out/path"
    # An interrupted run keeps what is finished, and the same command goes on to the end.
    local short=("${run[@]}" "$lenet" --device cuda --batch "$BATCH" --rounds 2 --warm-up 1s --seed 1 --out "$out/interrupted")
    step interrupted 130 timeout --preserve-status --signal=INT 15 "${short[@]}"
    if done_before interrupted; then
        step goes-on 0 "${short[@]}"
        step goes-on-whole 0 python3 ./python/checks.py run "$out/interrupted/run.json"
    else
        skip goes-on "the interrupted run is not there"
    fi
}

part_energy() {
    needs energy bin/gpu_window || return 0
    result window energy.json python3 ./python/energy_window.py ./bin/gpu_window -- \
        --device cuda --network ./networks/resnet50.toml --layer stage3.1.conv2 --batch "$BATCH" \
        --precision bf16 --layout nhwc --seconds 20
}

part_torch() {
    local mode
    needs torch bin/gpu_layer_times || return 0
    for mode in bf16,nhwc tf32,nchw f32,nchw; do
        result "torch-${mode/,/-}" "torch-${mode/,/-}.json" \
            python3 ./python/torch_layers.py ./bin/gpu_layer_times --precision "${mode%,*}" \
            --layout "${mode#*,}" --batch "$BATCH" ./networks/resnet50.toml ./networks/vgg16.toml
    done
}

profile() { # NAME NETWORK PRECISION LAYOUT SEED
    local out="$WORK/results/runs/$1"
    step "$1" 0 ./bin/layerjoule profile "./networks/$2.toml" --device cuda --precision "$3" \
        --layout "$4" --batch "$BATCH" --rounds "$ROUNDS" --seed "$5" --cache cold --meter nvml --top all --out "$out"
    if done_before "$1"; then
        step "$1-checks" 0 python3 ./python/checks.py run "$out/run.json"
        # For people: closure, counts of layers, shares by kind.
        cp "$WORK/logs/$1-checks.log" "$WORK/results/runs/$1-checks.txt" 2>/dev/null || true
    fi
}

# The first run of the same work lies in the archive of another part.
agreement() { # PART RUN RUN
    local first="$OUT/part-$1.tar.gz" there
    if [[ ! -e $first ]]; then
        skip agreement "$(basename "$first") is not in OUT; run the part $1 into the same OUT, then this one again"
        return 0
    fi
    needs agreement bin/gpu_agreement || return 0
    # Not part of this archive: it lies in that of the other part.
    there="$(mktemp -d)"
    tar -xzf "$first" -C "$there" --no-same-owner
    result agreement agreement.txt ./bin/gpu_agreement "$there/results/runs/$2" "$WORK/results/runs/$3"
    rm -rf "$there"
}

part_resnet50-bf16() { profile resnet50-bf16-nhwc-b$BATCH-1 resnet50 bf16 nhwc 1; }
part_resnet50-tf32() { profile resnet50-tf32-nchw-b$BATCH-1 resnet50 tf32 nchw 1; }
part_resnet50-bf16-again() {
    profile resnet50-bf16-nhwc-b$BATCH-2 resnet50 bf16 nhwc 2
    ! done_before resnet50-bf16-nhwc-b$BATCH-2 || agreement resnet50-bf16 resnet50-bf16-nhwc-b$BATCH-{1,2}
}
part_resnet50-tf32-again() {
    profile resnet50-tf32-nchw-b$BATCH-2 resnet50 tf32 nchw 2
    ! done_before resnet50-tf32-nchw-b$BATCH-2 || agreement resnet50-tf32 resnet50-tf32-nchw-b$BATCH-{1,2}
}
part_vgg16() { profile vgg16-bf16-nhwc-b$BATCH vgg16 bf16 nhwc 1; }

# ---------------------------------------------------------------------------------------------------------------------

# On an end that nobody wanted: stop what runs, keep what is finished.
interrupted() {
    trap - INT TERM HUP
    [[ -z $CHILD ]] || { kill -TERM "$CHILD" 2>/dev/null || true; wait "$CHILD" 2>/dev/null || true; }
    say "run.sh: interrupted; what is finished is kept"
    [[ $WORST == "$FAILED" ]] || WORST=$UNFINISHED
    archive
    exit 130
}

run_part() {
    PART="$1"
    MANIFEST_SHA256="$(sha256sum ./MANIFEST.json | cut -d ' ' -f 1)"
    DEADLINE=$((SECONDS + PART_S))
    WORST=$OK CHILD="" STEP_OUT="" STEP_SAYS="" ENDED=no
    say "=== $PART: $(describe "$PART" | cut -d ' ' -f 2-), at most $PART_S s"
    # Outside OUT, so that only the archives are carried away; of this bundle and this OUT alone.
    WORK="${LAYERJOULE_GPU_WORK:-${TMPDIR:-/tmp}}/layerjoule-gpu-$(printf '%s %s' "$MANIFEST_SHA256" "$OUT" | sha256sum | cut -c 1-16)/$PART"
    (umask 077 && mkdir -p "$WORK")
    [[ -O $WORK ]] || die "$WORK belongs to someone else; set LAYERJOULE_GPU_WORK to a folder of yours"
    restore
    mkdir -p "$WORK"/{done,logs,results}
    # The results of an earlier, unfinished call of the same part stay.
    [[ -e $WORK/started ]] || date -u +%Y-%m-%dT%H:%M:%SZ >"$WORK/started"
    [[ -e $WORK/steps.tsv ]] || printf 'step\tstatus\texit_code\tseconds\tcommand\treason\n' >"$WORK/steps.tsv"
    cp ./MANIFEST.json "$WORK/MANIFEST.json"
    trap interrupted INT TERM HUP
    environment
    "part_$PART"
    ENDED=yes
    archive
    trap - INT TERM HUP
    case "$WORST" in
        "$OK") say "=== $PART: ok, $OUT/part-$PART.tar.gz" ;;
        "$FAILED") say "=== $PART: FAILED, $OUT/part-$PART.tar.gz" ;;
        *) say "=== $PART: unfinished, give the same command again; $OUT/part-$PART.tar.gz" ;;
    esac
    return "$WORST"
}

# Parts one after the other, each in a shell of its own; those that no longer fit the budget are named.
run_parts() {
    local part seconds worst=$OK code lines=()
    for part in "$@"; do
        seconds="$(describe "$part" | cut -d ' ' -f 1)"
        if [[ -n $BUDGET_S ]] && ((SECONDS + seconds > BUDGET_S)); then
            lines+=("skipped $part: takes about $seconds s, BUDGET_S leaves $((BUDGET_S > SECONDS ? BUDGET_S - SECONDS : 0))")
            continue
        fi
        code=0
        ./run.sh "$part" "$OUT" || code=$?
        case "$code" in
            0) lines+=("ok $part") ;;
            4) lines+=("unfinished $part"); [[ $worst == "$FAILED" ]] || worst=$UNFINISHED ;;
            130) lines+=("interrupted $part"); worst=130; break ;;
            *) lines+=("FAILED $part"); worst=$FAILED ;;
        esac
    done
    say "=== summary"
    printf '%s\n' "${lines[@]}" >&2
    return "$worst"
}

main() {
    (($# >= 1 && $# <= 2)) || { usage >&2; exit "$USAGE"; }
    for number in PART_S RESERVE_S ROUNDS BATCH ${BUDGET_S:+BUDGET_S}; do
        [[ ${!number} =~ ^[1-9][0-9]{0,5}$ ]] || die "$number: expected a whole number above 0, found \"${!number}\"" "$USAGE"
    done
    local part="$1" name
    case "$part" in
        list)
            for name in "${PARTS[@]}"; do
                printf '%-20s %4s s  %s\n' "$name" "$(describe "$name" | cut -d ' ' -f 1)" "$(describe "$name" | cut -d ' ' -f 2-)"
            done
            exit 0
            ;;
        -h | --help | help) usage; exit 0 ;;
        all | resnet50) ;;
        *) describe "$part" >/dev/null || die "no part \"$part\"; \`run.sh list\` names them" "$USAGE" ;;
    esac
    mkdir -p "${2:-$BUNDLE/results}"
    OUT="$(cd "${2:-$BUNDLE/results}" && pwd)"
    # From here on all paths are relative: results name no place of this machine.
    cd "$BUNDLE"
    preflight
    case "$part" in
        all) run_parts "${PARTS[@]}" ;;
        resnet50) run_parts resnet50-bf16 resnet50-bf16-again resnet50-tf32 resnet50-tf32-again ;;
        *) run_part "$part" ;;
    esac
}

main "$@"
