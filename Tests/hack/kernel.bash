#!/usr/bin/env bash
# Tests of hack/build-kernel and of the kernel it builds.

# An initramfs whose only program is busybox and whose /init is stdin.
make_initramfs() {
    local tree=$scratch/initramfs.d
    mkdir -p "$tree"/{bin,proc,sys,dev}
    cp "$(command -v busybox)" "$tree/bin/"
    { printf '#!/bin/busybox sh\nPATH=/bin\n/bin/busybox --install -s /bin\n'; cat; } > "$tree/init"
    chmod 755 "$tree/init"
    (cd "$tree" && find . | cpio -o -H newc --quiet) > "$scratch/initramfs"
}

need_kernel() {
    [ "$(id -u)" = 0 ] || skip "hack/testbed needs root"
    kernel=$(hack/build-kernel --print-path) || skip "run hack/build-kernel first"
}

# QEMU's microvm under KVM, its serial console on stdout. Without ACPI, QEMU names the devices on
# the command line, as our VMM does.
microvm=(qemu-system-x86_64 -M "microvm,acpi=off,pit=off,pic=off,rtc=off"
    -global virtio-mmio.force-legacy=false -accel kvm -cpu host -nodefaults -no-user-config
    -display none -serial stdio -no-reboot)
command_line="console=ttyS0 quiet reboot=t panic=-1 tsc=reliable no_timer_check \
random.trust_cpu=on"

# Boots kernel $1 with $2 vCPUs and $3 MiB inside the testbed. More arguments go to QEMU.
boot() {
    local image=$1 cpus=$2 memory=$3
    shift 3
    hack/testbed --timeout 120 -- "${microvm[@]}" -smp "$cpus" -m "$memory" -kernel "$image" \
        -initrd "$scratch/initramfs" "$@" -append "$command_line"
}

test_kernel_boots_and_ends() {
    need_kernel
    make_initramfs << 'END'
mount -t proc proc /proc
echo "running $(uname -s) $(uname -r) on $(grep -c ^processor /proc/cpuinfo) CPUs"
reboot -f
END
    # All of them in one outer VM: its start takes longer than theirs.
    try hack/testbed --timeout 240 -- bash -c '
        for shape in "vmlinux 1 256" "vmlinux 4 256" "vmlinux 32 512" "bzImage 1 256" "vmlinux 1 32"
        do
            read -r image cpus memory <<< "$shape"
            status=0
            echo "== $shape"
            "${@:3}" -smp "$cpus" -m "$memory" -kernel "$1/$image" -append "$2" || status=$?
            echo "status $status."
        done' boots "${kernel%/*}" "$command_line" "${microvm[@]}" -initrd "$scratch/initramfs"
    local shape cpus part
    for shape in "vmlinux 1 256" "vmlinux 4 256" "vmlinux 32 512" "bzImage 1 256" "vmlinux 1 32"; do
        read -r _ cpus _ <<< "$shape"
        part=${out#*"== $shape"}
        part=${part%%"=="*}
        contains "$part" "running Linux 6.1" "$shape"
        contains "$part" "on $cpus CPUs" "$shape"
        contains "$part" "status 0." "$shape"
    done
}

test_kernel_takes_a_gzip_initramfs() {
    need_kernel
    make_initramfs << 'END'
echo reached
reboot -f
END
    gzip "$scratch/initramfs"
    mv "$scratch/initramfs.gz" "$scratch/initramfs"
    try boot "$kernel" 1 256
    contains "$out" reached "output"
}

test_kernel_ends_the_machine_on_panic() {
    need_kernel
    make_initramfs <<< 'exit 3'
    try boot "$kernel" 1 256
    equal "$status" 0 "status"
    contains "$out" "Kernel panic - not syncing: Attempted to kill init" "console"
}

test_kernel_has_what_a_container_guest_mounts() {
    need_kernel
    make_initramfs << 'END'
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/mqueue /dev/shm /tmp /a /b /w /m /e
mount -t devpts -o newinstance,ptmxmode=666 devpts /dev/pts && echo devpts
mount -t mqueue mqueue /dev/mqueue && echo mqueue
mount -t tmpfs -o size=64m tmpfs /tmp && echo tmpfs
mount -t cgroup2 cgroup /sys/fs/cgroup && echo "cgroup2 $(cat /sys/fs/cgroup/cgroup.controllers)."
mkdir /tmp/u /tmp/w
mount -t overlay -o lowerdir=/a:/b,upperdir=/tmp/u,workdir=/tmp/w overlay /m && echo overlay
mount -t erofs -o ro /dev/vda /e && cat /e/in-the-layer
mount -t ext4 /dev/vdb /w && echo ext4 > /w/file && cat /w/file
ls /proc/self/ns | tr '\n' ' '
ls /sys/bus/virtio/drivers | tr '\n' ' '
grep -q virtiofs /proc/filesystems && echo virtiofs
test -c /dev/hwrng && head -c 16 /dev/hwrng > /dev/null && echo entropy
mkdir /sys/fs/cgroup/x && test -e /sys/fs/cgroup/x/cgroup.freeze && echo freezer
cat /proc/sys/kernel/seccomp/actions_avail
cat /proc/modules 2> /dev/null || echo no modules
reboot -f
END
    mkdir "$scratch/layer"
    echo "layer content" > "$scratch/layer/in-the-layer"
    head -c 100000 /dev/zero > "$scratch/layer/zeros"
    mkfs.erofs -zlz4 "$scratch/erofs" "$scratch/layer" > /dev/null 2>&1
    truncate -s 16M "$scratch/ext4"
    mkfs.ext4 -q "$scratch/ext4"
    try boot "$kernel" 1 256 \
        -drive "file=$scratch/erofs,format=raw,if=none,id=a,readonly=on" \
        -device virtio-blk-device,drive=a \
        -drive "file=$scratch/ext4,format=raw,if=none,id=b" -device virtio-blk-device,drive=b \
        -device virtio-rng-device -device virtio-balloon-device,free-page-reporting=on
    equal "$status" 0 "status"
    local word
    for word in devpts mqueue tmpfs overlay "layer content" ext4 virtiofs entropy freezer \
        "no modules" virtio_balloon virtio_blk virtio_net virtio_rng \
        vmw_vsock_virtio_transport cgroup ipc mnt net pid time user uts errno kill_process; do
        contains "$out" "$word" "console"
    done
    for word in cpuset cpu io memory pids hugetlb; do
        [[ $out =~ cgroup2\ [a-z_\ ]*$word ]] || fail "no controller $word: $out"
    done
}

# A copy of what the build reads, with its own cache that has the source.
copy_build() {
    local source=${XDG_CACHE_HOME:-$HOME/.cache}/apus/kernel/source
    mkdir -p "$scratch/copy/hack" "$scratch/cache/apus/kernel"
    cp hack/build-kernel "$scratch/copy/hack/"
    cp -r kernel-configs "$scratch/copy/"
    [ -s "$source/sha256" ] || skip "run hack/build-kernel first"
    cp -al "$source" "$scratch/cache/apus/kernel/source"
    export XDG_CACHE_HOME=$scratch/cache
}

test_kernel_build_names_an_option_that_is_dropped() {
    copy_build
    # Its need, ACPI, is off on purpose; the kernel's own tools would drop it without a word.
    echo 'CONFIG_ACPI_BUTTON=y' >> "$scratch/copy/kernel-configs/network.config"
    try "$scratch/copy/hack/build-kernel"
    equal "$status" 1 "status"
    contains "$err" "CONFIG_ACPI_BUTTON=y" "message"
    equal "$(cd "$XDG_CACHE_HOME/apus/kernel" && echo *)" "lock source" "what is left there"
}

test_kernel_build_refuses_bad_fragments() {
    copy_build
    cp "$scratch/copy/kernel-configs/network.config" "$scratch/network.config"
    echo 'CONFIG_EXT4_FS=y' >> "$scratch/copy/kernel-configs/network.config"
    try "$scratch/copy/hack/build-kernel"
    equal "$status" 1 "status of an option named twice"
    contains "$err" "more than once in kernel-configs/: CONFIG_EXT4_FS" "message"
    cp "$scratch/network.config" "$scratch/copy/kernel-configs/"
    echo 'EXT4_FS=y' >> "$scratch/copy/kernel-configs/network.config"
    try "$scratch/copy/hack/build-kernel"
    equal "$status" 1 "status of a line that is no option"
    contains "$err" "EXT4_FS=y" "message"
}

test_kernel_key_follows_options_and_not_reasons() {
    copy_build
    try "$scratch/copy/hack/build-kernel" --print-path
    equal "$status/$out" "1/" "no kernel in a new cache"
    unset XDG_CACHE_HOME
    need_kernel
    echo '# another reason' >> "$scratch/copy/kernel-configs/network.config"
    try "$scratch/copy/hack/build-kernel" --print-path
    equal "$out" "$kernel" "path after a change of a comment"
    echo 'CONFIG_NET_SCHED=y' >> "$scratch/copy/kernel-configs/network.config"
    try "$scratch/copy/hack/build-kernel" --print-path
    equal "$status/$out" "1/" "path after a change of an option"
}
