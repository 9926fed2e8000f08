"""What the reports of several commands are made of: a page, figures of one style, an output folder."""
