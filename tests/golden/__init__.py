"""What flaxtl computed before the redesign, to the bit: the net under every later change of its structure."""
