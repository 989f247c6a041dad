ENGINES = ("local", "ray")
