"""What goes over the wire: request bodies, answers, and how records become answers."""
