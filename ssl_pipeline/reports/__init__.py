"""Room 5: what people look at. A report is given plain records and tables, and gives text, tables or pictures."""
