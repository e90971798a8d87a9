"""Room 4: which of a teacher's labels to keep, the manifest that says why, and the student's training table."""
