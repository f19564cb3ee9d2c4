"""Tour: live a recorded period of a project through the real parts, in lock-step, and report what came out."""
