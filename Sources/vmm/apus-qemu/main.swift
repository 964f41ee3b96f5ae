internal import Linux
internal import QEMU

Process.exit(QEMUProgram.run(CommandLine.arguments))
