internal import Shim

ShimProgram.runAndExit(Array(CommandLine.arguments.dropFirst()))
