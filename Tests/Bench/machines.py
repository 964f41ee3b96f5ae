"""Machines for the benches, ours and QEMU's: the same kernel, initramfs, vCPUs and devices."""

import os
import signal
import socket
import struct
import subprocess
import tempfile
import time

import ttrpc
import vhost_user

COMMAND_LINE = ("console=ttyS0 quiet loglevel=4 reboot=t panic=-1 nomodule random.trust_cpu=on"
                " tsc=reliable no_timer_check cryptomgr.notests")
MEMORY = 256
AGENT = "apus.agent.v1.Agent"


class Machine:
    """What both kinds share: a folder, a console, a process."""

    name = ""

    def __init__(self, kernel, initramfs, disks=(), vsock=True, vcpus=1):
        self.kernel, self.initramfs = kernel, initramfs
        self.disks, self.vsock, self.vcpus = disks, vsock, vcpus
        # Memory, not the share: a disk's own speed is not what is compared.
        self.folder = tempfile.mkdtemp(prefix="apus-bench-", dir="/dev/shm")
        self.console = f"{self.folder}/console"
        self.process = None
        self.agent = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.agent:
            self.agent.connection.close()
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        subprocess.run(["rm", "-rf", self.folder], check=False)

    def boot(self):
        """Starts the program, and returns when the agent has answered: nanoseconds."""
        began = time.monotonic_ns()
        self.start()
        self.agent = ttrpc.Client(self.accept())
        self.agent.call(AGENT, "Hello", ttrpc.message((1, time.time_ns())), 120)
        return time.monotonic_ns() - began

    def run(self, seconds=300):
        """Starts the program, and returns when it has ended: what its guest printed."""
        self.start()
        self.process.wait(seconds)
        with open(self.console, "rb") as file:
            return file.read().decode("utf-8", "replace")

    def memory(self, pid=None):
        """Bytes (Pss, private) of the process, or another of its, without its guest's memory."""
        pss = private = 0
        counted = True
        with open(f"/proc/{pid or self.process.pid}/smaps", encoding="ascii") as file:
            for line in file:
                words = line.split()
                if "-" in words[0] and not words[0].endswith(":"):
                    start, end = (int(x, 16) for x in words[0].split("-"))
                    counted = not self.is_guest_memory(end - start, " ".join(words[5:]))
                elif counted and words[0] == "Pss:":
                    pss += int(words[1]) << 10
                elif counted and words[0] in ("Private_Clean:", "Private_Dirty:"):
                    private += int(words[1]) << 10
        return pss, private

    def start(self):
        """Starts the program."""
        raise NotImplementedError

    def accept(self):
        """The agent's connection."""
        raise NotImplementedError

    def is_guest_memory(self, size, name):
        """Whether a mapping is the guest's memory."""
        raise NotImplementedError


class Ours(Machine):
    """apus-vmm, driven as the shim does."""

    name = "apus-vmm"
    program = ""
    emulated = False

    def start(self):
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control = here
        # Descriptor 3 is the control socket.
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", f'exec 3<&{there.fileno()}; exec "$0" --control-fd 3', self.program],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[there.fileno()])
        there.close()
        self.configure()

    def configure(self):
        """Sends the configuration, in the wire form of VMControl's MachineConfiguration."""
        files = []

        def add(descriptor):
            files.append(descriptor)
            return bytes([len(files) - 1])

        def opened(path, flags=os.O_RDONLY):
            return add(os.open(path, flags | os.O_CLOEXEC, 0o600))

        def text(value):
            return struct.pack("<H", len(value)) + value.encode()

        out = bytes([1, 1, self.vcpus]) + struct.pack("<I", MEMORY)
        out += bytes([255]) if self.emulated else opened("/dev/kvm", os.O_RDWR)
        out += opened(self.kernel) + bytes([0])
        out += opened(self.initramfs) + text(COMMAND_LINE)
        out += bytes([len(self.disks)])
        for number, disk in enumerate(self.disks):
            out += opened(disk) + bytes([1]) + text(f"layer{number}")
        if self.vsock:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(f"{self.folder}/vsock")
            listener.listen()
            self.streams = listener
            self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            out += bytes([1]) + struct.pack("<I", 3) + add(os.dup(listener.fileno()))
            out += bytes([1]) + struct.pack("<I", 1024) + add(os.dup(theirs.fileno()))
            theirs.close()
        else:
            out += bytes([0])
        out += bytes([0, 1, 1, 1, 1])
        out += opened(self.console, os.O_RDWR | os.O_CREAT) + struct.pack("<I", 256 << 10)
        out += bytes([1]) + struct.pack("<IIBIQ", 0x70000001, 0x70000001, 0, 4096, 0)
        socket.send_fds(self.control, [out], files)
        for descriptor in files:
            os.close(descriptor)
        answer = self.control.recv(65536)
        if answer[:1] != b"\1":
            raise RuntimeError(f"{self.name}: {answer[1:].decode('utf-8', 'replace')}")

    def accept(self):
        self.channel.settimeout(120)
        _, files, _, _ = socket.recv_fds(self.channel, 16, 1)
        return socket.socket(fileno=files[0])

    def connect(self, port):
        """A stream to a port of the guest."""
        stream = socket.socket(socket.AF_UNIX)
        stream.connect(f"{self.folder}/vsock")
        stream.sendall(b"CONNECT %d\n" % port)
        while stream.recv(1) != b"\n":
            pass
        return stream

    def is_guest_memory(self, size, name):
        return name.startswith("/memfd:") and size >= 16 << 20


class Qemu(Machine):
    """QEMU's microvm under KVM, without what it can do without."""

    name = "QEMU microvm"
    kind = "microvm,pit=off,pic=off,rtc=off,isa-serial=on,acpi=off,x-option-roms=off"

    def start(self):
        words = ["qemu-system-x86_64", "-M", self.kind, "-accel", "kvm", "-cpu", "host",
                 "-smp", str(self.vcpus), "-m", str(MEMORY), "-nodefaults", "-no-user-config",
                 "-display", "none", "-no-reboot", "-global", "virtio-mmio.force-legacy=false",
                 "-kernel", self.kernel, "-initrd", self.initramfs,
                 "-append", f"{COMMAND_LINE} pci=off", "-serial", f"file:{self.console}",
                 "-object", "rng-random,id=random,filename=/dev/urandom",
                 "-device", "virtio-rng-device,rng=random",
                 "-device", "virtio-balloon-device,free-page-reporting=on,deflate-on-oom=on"]
        if self.vsock:
            self.listener = socket.socket(socket.AF_VSOCK)
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.listener.bind((socket.VMADDR_CID_ANY, 1024))
            self.listener.listen()
            words += ["-device", "vhost-vsock-device,guest-cid=3"]
        for number, disk in enumerate(self.disks):
            words += ["-drive", f"id=d{number},file={disk},format=raw,if=none,readonly=on",
                      "-device", f"virtio-blk-device,drive=d{number},serial=layer{number}"]
        self.process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def accept(self):
        self.listener.settimeout(120)
        connection, _ = self.listener.accept()
        self.listener.close()
        return connection

    def is_guest_memory(self, size, name):
        # Anonymous memory of exactly its size; QEMU may have merged it with nothing else.
        return name == "" and size == MEMORY << 20


class OursEmulated(Ours):
    """apus-qemu without /dev/kvm."""

    name = "apus-qemu"
    emulated = True


class QemuEmulated(Machine):
    """QEMU's q35 by software emulation, started as one who knows how would start it."""

    name = "QEMU q35"
    kind = "q35,usb=off,vmport=off,sata=off,smbus=off,hpet=off,memory-backend=memory"

    def start(self):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{self.folder}/vsock")
        listener.listen()
        self.vsock = vhost_user.VsockBackend(listener)
        self.vsock.start()
        words = ["qemu-system-x86_64", "-M", self.kind, "-accel", "tcg", "-cpu", "max",
                 "-smp", str(self.vcpus), "-m", str(MEMORY), "-nodefaults", "-no-user-config",
                 "-object", f"memory-backend-memfd,id=memory,size={MEMORY}M,share=on",
                 "-display", "none", "-no-reboot", "-bios", "/usr/share/qemu/qboot.rom",
                 "-kernel", self.kernel, "-initrd", self.initramfs,
                 "-append", f"{COMMAND_LINE} nolapic_timer", "-serial", f"file:{self.console}",
                 "-object", "rng-random,id=random,filename=/dev/urandom",
                 "-device", "virtio-rng-pci,rng=random",
                 "-device", "virtio-balloon-pci,free-page-reporting=on,deflate-on-oom=on",
                 "-chardev", f"socket,id=vsock,path={self.folder}/vsock",
                 "-device", "vhost-user-vsock-pci,chardev=vsock"]
        self.process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def accept(self):
        if not self.vsock.dialled.wait(120):
            raise RuntimeError("the guest's agent did not dial")
        return self.vsock.stream

    def is_guest_memory(self, size, name):
        return name.startswith("/memfd:") and size == MEMORY << 20
