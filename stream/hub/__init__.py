"""Who gets which task, and what the votes on a segment become: deciders and one loop."""
