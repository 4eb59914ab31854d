"""Photos: reading them, finding people in them, and the network that predicts a body's vertices from one."""
