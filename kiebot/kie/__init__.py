"""KIE.ai as an adapter: the `Provider` and `Results` ports of `kiebot.generation.ports`, over HTTP.

KIE answers almost everything with HTTP 200 and puts the truth into the body: `{"code", "msg", "data"}`. It has no
idempotency key and no list of tasks, so the one question that matters for money is *did the request leave us?*

```
client.py    KieProvider: submit, query, upload, credits_left
exchange.py  one request: total deadline, byte cap, and NotSent | AnswerLost when there is no whole answer
wire.py      KIE's JSON <-> our types (pure)          outputs.py  the many shapes of a result (pure)
refusals.py  codes and sentences -> errors, failure words (pure)
budget.py    quotas of the account shared by all replicas; budget.lua is the count itself, kept in Redis
results.py   KieResults: result files      hosts.py  which may be read (pure)      dial.py  public addresses only
spool.py     what was read, until it is sent
callbacks.py is this knock KIE's? (pure)   replays.py    was it heard before?
discovery.py KIE's own list of models      multipart.py  an upload as a stream
```

How an outcome of `createTask` is decided, in this order:

1. The request never left (refused, DNS, TLS, no free connection): `Transient`.
2. It left and no whole, readable answer came (time-out, reset, HTML from a gateway, cut JSON): `OutcomeUnknown`.
3. An envelope came. Code 200 with a task id is success; 200 without one is `OutcomeUnknown`; every other code and its
   sentence become an error class in `refusals.py`. KIE makes no task without naming it, so nothing was created, but for
   the codes of gateways (502, 503, 504, 52x) and codes nobody has described: `OutcomeUnknown` again.

A query is a question: whatever goes wrong with it is `Transient`. A callback is a knock: its body is unsigned, so it
yields a task id to ask about and nothing else. A result address comes from outside, so it is fetched without
redirects into the unknown, without credentials, from listed hosts, over addresses that are public.

The API key goes into one header of requests to the two configured KIE hosts. Errors raised here carry neither the key
nor the HTTP library's objects: they are raised outside its `except` blocks, so not even `__context__` leads there.
"""
