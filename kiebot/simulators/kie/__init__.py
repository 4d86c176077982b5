"""KIE.ai as its clients see it: strict where it is strict, and able to fail in every way it is known to fail.

One ASGI program serves the API (`/api/v1/…`), the upload host (`/api/file-…-upload`) and the file hosts (`/files/…`),
so one base URL stands for all three. Time comes from a clock and chance from a seed: a run can be sped up and replayed.

A request goes `simulator` (route, key, journal) -> handler -> a reply as data -> `exchange` (sends it).

- `jobs`      createTask and recordInfo · `inputs`, `schema` what an input must be · `prices` what it costs
- `plans`     a task's fate, drawn at create: states, length, failure · `tasks` how it stands · `results` its files
- `records`   a task as JSON: three field sets, callback bodies · `callbacks`, `signature` telling the client
- `uploads`   three ways in, signed links out · `files`, `serving` what is kept, how it is served or not
- `discovery` the catalogue calls · `catalogue` the models behind them
- `switches`  lasting behaviour, per model too · `faults` single mishaps to come · `marks` both, from inside a prompt
- `noise`     gateway pages and broken connections · `windows` rate limits · `purse` credits · `control` the admin path

A task ends by the clock, not by a background job: its state is a function of its age, and whoever looks first after its
end makes the refund and the result files appear.
"""

from kiebot.simulators.kie.faults import Faults
from kiebot.simulators.kie.journal import Entry, Journal
from kiebot.simulators.kie.signature import sign
from kiebot.simulators.kie.simulator import KieSimulator
from kiebot.simulators.kie.switches import ModelSwitches, Switches
from kiebot.simulators.kie.tasks import Delivery, Ledger, Task

__all__ = [
    "Delivery",
    "Entry",
    "Faults",
    "Journal",
    "KieSimulator",
    "Ledger",
    "ModelSwitches",
    "Switches",
    "Task",
    "sign",
]
