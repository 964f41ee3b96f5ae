internal import Linux
internal import VMM

Process.exit(VMMProgram.run(CommandLine.arguments))
