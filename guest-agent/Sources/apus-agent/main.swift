// PID 1 of an Apus guest (guest-agent/README.md).
internal import Agent

AgentMain.run()
