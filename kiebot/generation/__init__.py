"""What users buy: the catalogue and its prices, the life of a generation, and the engine that takes it through.

Pure: `catalog`, `product`, `fields`, `checks`, `pricing`, `media` (with `mp3`, `mp4`, `matroska`), `pace`, `machine`.
With rows: `effects` applies one event and writes what follows from it; `service` accepts, cancels, advances and hears
callbacks; `submit` (with `uploads`) and `watch` are the two halves of `advance`, `stops` is what holds creates back.
`ports` says what they need of the world, `tools` what they were given.

    accept: row + hold -> advance: slot, budget, uploads, intent | createTask | task id -> look, look -> settle + tell

Every step is short and resumable: what a step needs to know is in the row, what it waits for is a time in the row.
"""
