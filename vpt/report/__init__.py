"""What people read: progress, tables, cards."""
