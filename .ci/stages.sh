# What the scripts of this folder share: stages, their logs and the closing report.
# To be sourced. A stage is a function or command; it fails if any part of it fails.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

export MPLBACKEND=Agg TF_CPP_MIN_LOG_LEVEL=3 PYTHONUNBUFFERED=1
export PIP_DISABLE_PIP_VERSION_CHECK=1 NO_MKDOCS_2_WARNING=1
# Each stage says which backend it runs on; the default is Keras's own.
unset KERAS_BACKEND PYTHONPATH

report=()
failed=0

# run NAME COMMAND...: runs it in a subshell of its own, with errexit on. What it
# prints is kept in $work/NAME.log; its status and its seconds
# in $work/NAME.ended.
run() {
    local name=$1 begin=$SECONDS status=0
    shift
    # Not `if (...)` or `(...) ||`: bash would ignore errexit inside.
    set +e
    (
        set -e
        "$@"
    ) >"$work/$name.log" 2>&1
    status=$?
    set -e
    echo "$status $((SECONDS - begin))" >"$work/$name.ended"
}

# show NAME...: what they printed and how they ended.
show() {
    local name status seconds outcome
    for name in "$@"; do
        status=none seconds=0 outcome=ok
        if [ -e "$work/$name.ended" ]; then
            read -r status seconds <"$work/$name.ended"
        fi
        if [ "$status" != 0 ]; then
            outcome="FAILED ($status)"
            failed=1
        fi
        printf '\n==> %s\n' "$name"
        cat "$work/$name.log" || true
        report+=("$(printf '%-22s %5d s  %s' "$name" "$seconds" "$outcome")")
        printf '==> %s: %s, %d s\n' "$name" "$outcome" "$seconds"
    done
}

stage() {
    run "$@"
    show "$1"
}

# queue NAME COMMAND...: as run, in the background, once fewer than two are running.
queue() {
    while [ "$(jobs -rp | wc -l)" -ge 2 ]; do
        wait -n || true
    done
    run "$@" &
}

on_backend() {
    export KERAS_BACKEND=$1
    shift
    "$@"
}

# closing_lines NAME: pytest's closing lines in the log of a stage, one a process.
closing_lines() {
    grep -E '^=+ .* in .*=+$|^[0-9]+ .* in [0-9.]+s|^no tests ran' "$work/$1.log" |
        tr -d '=' | paste -sd ';' - || true
}
