#!/usr/bin/env bash
# Tests of hack/testbed.

need_testbed() {
    [ "$(id -u)" = 0 ] || skip "hack/testbed needs root"
}

# Processes of any testbed started with a marker in its environment or its run directory.
processes_of() { pgrep -f -- "$1" > /dev/null; }
no_process_of() { ! processes_of "$1"; }

# The directory of the one run that was started by the process $1.
run_directory_of() {
    local path
    for path in /var/tmp/apus-testbed.*; do
        if [ -e "$path/lock" ] && [ "/proc/$1/fd/8" -ef "$path/lock" ]; then
            echo "$path"
            return 0
        fi
    done
    return 1
}

# Starts a run in the background and waits until its command is on its way. Sets runner, directory.
start_run() {
    rm -f "$scratch/started"
    hack/testbed -- sh -c "touch $scratch/started; sleep 300" > "$scratch/run.out" \
        2> "$scratch/run.err" &
    runner=$!
    await 60 test -e "$scratch/started"
    directory=$(run_directory_of "$runner")
    processes_of "$directory" || fail "no process of $directory while it runs"
}

test_testbed_hands_back_the_exit_status() {
    need_testbed
    try hack/testbed -- sh -c 'echo out; echo err >&2; exit 7'
    equal "$status" 7 "status of exit 7"
    equal "$out" out "stdout"
    equal "$err" err "stderr"
    try hack/testbed -- sh -c 'kill -9 $$'
    equal "$status" 137 "status of a killed command"
    try hack/testbed -- /nonexistent/command
    equal "$status" 127 "status of an unknown command"
}

test_testbed_passes_directory_arguments_and_environment() {
    need_testbed
    mkdir "$scratch/a b"
    cd "$scratch/a b"
    export SHOWN='a "b" $c' HIDDEN=no
    try "$OLDPWD/hack/testbed" --env SHOWN -- sh -c 'pwd
        printf "<%s>" "$@"
        echo
        echo "$SHOWN|${HIDDEN-unset}|$APUS_TESTBED"
        readlink /proc/self/fd/0
        cat' sh '' 'x y' "it's" $'two\nlines'
    equal "$status" 0 "status"
    equal "$out" "$scratch/a b
<><x y><it's><two
lines>
$SHOWN|unset|1
/dev/null" "what the command saw"
}

test_testbed_has_what_containers_and_machines_need() {
    need_testbed
    echo "from the machine" > "$scratch/file"
    try hack/testbed -- bash -ec '
        for device in kvm vhost-vsock vhost-net net/tun; do test -c /dev/$device; done
        for controller in cpu cpuset io memory pids; do
            grep -qw $controller /sys/fs/cgroup/cgroup.subtree_control
        done
        mkdir /sys/fs/cgroup/test && echo 50000000 > /sys/fs/cgroup/test/memory.max
        unshare --user --map-root-user --mount --pid --fork --net true
        mkdir /run/l /run/u /run/w /run/m
        mount -t overlay -o lowerdir=/run/l,upperdir=/run/u,workdir=/run/w overlay /run/m
        ip link add bridge0 type bridge
        ip link add left0 type veth peer name right0
        ip tuntap add dev tap0 mode tap
        ip link set bridge0 up; ip link set left0 master bridge0; ip link set tap0 master bridge0
        ip link add dummy0 type dummy # a module loaded on demand
        truncate -s 8M /run/disk && mkfs.ext4 -q /run/disk
        mkdir /run/d && mount -o loop /run/disk /run/d
        grep -qx "from the machine" "$1/file"
        echo "from inside" > "$1/made"
        echo all' bash "$scratch"
    equal "$status/$out" "0/all" "status and output ($err)"
    equal "$(< "$scratch/made")" "from inside" "a file made inside"
    [ ! -e /sys/class/net/bridge0 ] || fail "a bridge was made on this machine"
}

test_testbed_loses_no_output_to_a_slow_reader() {
    need_testbed
    head -c 10485760 /dev/urandom > "$scratch/bytes"
    hack/testbed -- cat "$scratch/bytes" | { sleep 7 && sha256sum; } > "$scratch/sum"
    equal "$(cut -c 1-64 "$scratch/sum")" "$(sha256sum < "$scratch/bytes" | cut -c 1-64)" "sum"
}

test_testbed_shows_output_while_the_command_runs() {
    need_testbed
    hack/testbed -- sh -c 'echo first; sleep 300' > "$scratch/live" &
    local runner=$!
    await 60 grep -q first "$scratch/live"
    kill -TERM "$runner"
    wait "$runner" || true
}

test_testbed_ends_when_the_reader_goes_away() {
    need_testbed
    local began=$SECONDS status
    set +o pipefail
    { hack/testbed -- yes; echo $? > "$scratch/status"; } | head -n 1 > /dev/null
    status=$(< "$scratch/status")
    equal "$status" 141 "status"
    ((SECONDS - began < 60)) || fail "it took $((SECONDS - began)) s"
}

test_testbed_kills_what_the_command_leaves_running() {
    need_testbed
    try timeout 100 hack/testbed -- bash -c 'sleep 300 & setsid sleep 300 & echo done'
    equal "$status/$out" "0/done" "status and output"
}

test_testbed_ends_at_the_time_out() {
    need_testbed
    local began=$SECONDS
    try hack/testbed --timeout 6 -- sleep 300
    equal "$status" 124 "status"
    contains "$err" "no end after 6 s" "message"
    ((SECONDS - began < 20)) || fail "it took $((SECONDS - began)) s"
}

test_testbed_cleans_up_on_signals() {
    need_testbed
    local signal status expected
    for signal in TERM:143 HUP:129; do
        start_run
        kill "-${signal%:*}" "$runner"
        status=0
        wait "$runner" || status=$?
        expected=${signal#*:}
        equal "$status" "$expected" "status after SIG${signal%:*}"
        await 2 no_process_of "$directory"
        [ ! -e "$directory" ] || fail "$directory is left"
    done
}

test_testbed_killed_leaves_no_process_and_the_next_removes_its_directory() {
    need_testbed
    start_run
    kill -KILL "$runner"
    wait "$runner" || true
    await 5 no_process_of "$directory"
    [ -d "$directory" ] || fail "no directory is left; this test tests nothing"
    hack/testbed -- true
    [ ! -e "$directory" ] || fail "$directory is left after the next run"
}

test_testbed_reports_the_end_of_its_machine() {
    need_testbed
    start_run
    pkill -KILL -f "qemu-system-x86_64.*$directory/fs.sock"
    local status=0
    wait "$runner" || status=$?
    equal "$status" 125 "status"
    contains "$(< "$scratch/run.err")" "ended early" "message"
    [ ! -e "$directory" ] || fail "$directory is left"
}

test_testbed_runs_several_at_once() {
    need_testbed
    local first=0 second=0
    hack/testbed -- sh -c 'sleep 1; exit 3' &
    hack/testbed -- sh -c 'sleep 1; exit 4' || second=$?
    wait $! || first=$?
    equal "$first $second" "3 4" "statuses"
}

test_testbed_keeps_the_log() {
    need_testbed
    try hack/testbed --keep-log "$scratch/console" -- true
    equal "$status" 0 "status"
    contains "$(< "$scratch/console")" "Linux version" "log"
}

test_testbed_runs_directly_when_told() {
    export APUS_TESTBED_DIRECT=1
    try hack/testbed --direct-if-possible --timeout 5 -- \
        sh -c 'cat; echo "$APUS_TESTBED $(hostname)"; exit 9'
    equal "$status" 9 "status"
    equal "$out" "1 $(hostname)" "output"
    try hack/testbed --direct-if-possible --timeout 1 -- sleep 30
    equal "$status" 124 "status after the time-out"
    unset APUS_TESTBED_DIRECT
    need_testbed
    try hack/testbed --direct-if-possible -- hostname
    equal "$out" testbed "host name without the variable"
}

test_testbed_names_what_is_wrong() {
    try hack/testbed --
    equal "$status" 125 "status without a command"
    contains "$err" "no COMMAND" "message without a command"
    try hack/testbed --cpus none -- true
    contains "$err" "--cpus none" "message for a bad number"
    try hack/testbed --nonsense
    contains "$err" "unknown option --nonsense" "message for an unknown option"
    [ "$(id -u)" = 0 ] || skip "the rest needs root"
    mkdir "$scratch/bin"
    local tool
    for tool in bash id cat dirname realpath; do ln -s "$(command -v $tool)" "$scratch/bin/"; done
    try env PATH="$scratch/bin" "$(command -v bash)" hack/testbed -- true
    equal "$status" 125 "status without tools"
    contains "$err" "missing; run hack/setup" "message without tools"
}
