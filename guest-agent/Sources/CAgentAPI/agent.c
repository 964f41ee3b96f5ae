int apus_agent_api;
