"""The sink for windows: chunks of rows arrive (`sink`, `chunks`), panes close (`close`), their shards are written
(`shards`), a window is sealed when all of it is there (`seal`) and published (`publish`)."""
