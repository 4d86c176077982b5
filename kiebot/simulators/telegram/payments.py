"""Telegram Stars: invoices, the pre-checkout question with its deadline, charges, refunds, transactions."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from kiebot.simulators.telegram.answers import Json, bad_request, refuse
from kiebot.simulators.telegram.arguments import Arguments
from kiebot.simulators.telegram.callbacks import TOO_OLD
from kiebot.simulators.telegram.keyboards import read_markup
from kiebot.simulators.telegram.messages import ChatMessage
from kiebot.simulators.telegram.request import Handler, Request

LINK_PREFIX = "https://t.me/$"
SUBSCRIPTION_PERIOD_S = 2_592_000
_MAX_SUBSCRIPTION_STARS = 10_000
_MAX_TITLE, _MAX_DESCRIPTION, _MAX_PAYLOAD_BYTES = 32, 255, 128
_MAX_TRANSACTIONS = 100
_KEPT_CHECKOUTS = 10_000
_NANO = 1_000_000_000


@dataclass(slots=True, eq=False)
class Checkout:
    """A pre-checkout question. `verdict` is done with (ok, error text) when answered in time."""

    query_id: str
    asked_at: float
    verdict: asyncio.Future[tuple[bool, str]]


@dataclass(slots=True, eq=False)
class Charge:
    """A payment that happened."""

    charge_id: str
    user_id: int
    amount: int
    payload: str
    is_refunded: bool = False


class Till:
    """The Stars of one bot."""

    def __init__(self) -> None:
        self.charges: dict[str, Charge] = {}
        self.transactions: list[Json] = []
        self.balance_nano = 0
        self._checkouts: OrderedDict[str, Checkout] = OrderedDict()

    def open(self, checkout: Checkout) -> None:
        self._checkouts[checkout.query_id] = checkout
        if len(self._checkouts) > _KEPT_CHECKOUTS:
            self._checkouts.popitem(last=False)

    def checkout(self, query_id: str) -> Checkout | None:
        return self._checkouts.get(query_id)

    def earn(self, charge: Charge, user: Json, date: int) -> None:
        """Book a payment; its transaction has the id of the charge."""
        self.charges[charge.charge_id] = charge
        self.balance_nano += charge.amount * _NANO
        source: Json = {"type": "user", "transaction_type": "invoice_payment", "user": user}
        source["invoice_payload"] = charge.payload
        self.transactions.append({"id": charge.charge_id, "date": date, "amount": charge.amount, "source": source})

    def give_back(self, charge: Charge, user: Json, date: int) -> None:
        """Book a refund: an entry of its own under the same id."""
        charge.is_refunded = True
        self.balance_nano -= charge.amount * _NANO
        receiver: Json = {"type": "user", "transaction_type": "invoice_payment", "user": user}
        receiver["invoice_payload"] = charge.payload
        self.transactions.append({"id": charge.charge_id, "date": date, "amount": charge.amount, "receiver": receiver})

    def pay_for_broadcast(self, count: int) -> bool:
        """Take 0.1 Star per message; False when the balance does not cover it."""
        cost = count * _NANO // 10
        if self.balance_nano < cost:
            return False
        self.balance_nano -= cost
        return True

    def balance(self) -> Json:
        stars, nano = divmod(self.balance_nano, _NANO)
        return {"amount": stars, "nanostar_amount": nano} if nano else {"amount": stars}


def read_invoice(arguments: Arguments) -> Json:
    """The invoice of sendInvoice or createInvoiceLink. Raises: ApiError."""
    _require(arguments, ("title", "description", "payload", "currency"))
    title, description, payload = (arguments.text(name) for name in ("title", "description", "payload"))
    if len(title) > _MAX_TITLE:
        refuse("INVOICE_TITLE_INVALID")
    if len(description) > _MAX_DESCRIPTION:
        refuse("INVOICE_DESCRIPTION_INVALID")
    if len(payload.encode()) > _MAX_PAYLOAD_BYTES:
        refuse("INVOICE_PAYLOAD_INVALID")
    if arguments.text("currency") != "XTR":
        refuse("PAYMENT_PROVIDER_INVALID" if arguments.text("currency").isupper() else "CURRENCY_INVALID")
    invoice: Json = {"title": title, "description": description, "payload": payload, "currency": "XTR"}
    return invoice | {"total_amount": _stars(arguments), "start_parameter": arguments.text("start_parameter")}


def _require(arguments: Arguments, names: Iterable[str]) -> None:
    for name in names:
        if not arguments.text(name):
            refuse(f'parameter "{name}" is required')


def _stars(arguments: Arguments) -> int:
    prices = arguments.json("prices")
    has_extras = arguments.text("provider_token") or arguments.integer("max_tip_amount")
    if not isinstance(prices, list) or len(prices) != 1 or has_extras or arguments.boolean("is_flexible"):
        refuse("STARS_INVOICE_INVALID")
    amount = prices[0].get("amount") if isinstance(prices[0], dict) else None
    if not isinstance(amount, int) or amount < 1:
        refuse("STARS_INVOICE_INVALID")
    return amount


def send_invoice(request: Request) -> Json:
    chat, invoice = request.chat(), read_invoice(request.arguments)
    markup = read_markup(request.arguments, request.bot.world.rules).inline
    if markup is None:
        label = f"Pay ⭐️{invoice['total_amount']}"
        markup = {"inline_keyboard": [[{"text": label, "pay": True}]]}
    shown = {name: value for name, value in invoice.items() if name != "payload"}  # nobody but the bot sees it
    message: ChatMessage = request.post(chat, {"invoice": shown}, markup=markup)
    message.invoice_payload = invoice["payload"]
    request.call.sent = (chat.chat_id, "invoice", invoice["payload"])
    return message.body


def create_invoice_link(request: Request) -> str:
    invoice, world = read_invoice(request.arguments), request.bot.world
    period = request.arguments.integer("subscription_period")
    if period:
        if period != SUBSCRIPTION_PERIOD_S or invoice["total_amount"] > _MAX_SUBSCRIPTION_STARS:
            refuse("SUBSCRIPTION_PERIOD_INVALID")
        invoice["subscription_period"] = period
    slug = world.rng.randbytes(12).hex()
    world.invoice_links[slug] = (request.bot.bot_id, invoice)
    return LINK_PREFIX + slug


def answer_pre_checkout_query(request: Request) -> bool:
    world, arguments = request.bot.world, request.arguments
    is_ok = arguments.boolean("ok")
    if not is_ok and not arguments.text("error_message"):
        refuse('parameter "error_message" is required')
    checkout = request.bot.till.checkout(arguments.text("pre_checkout_query_id"))
    now = world.clock.monotonic()
    if checkout is None or checkout.verdict.done() or now - checkout.asked_at > world.rules.pre_checkout_deadline_s:
        refuse(TOO_OLD)
    checkout.verdict.set_result((is_ok, arguments.text("error_message")))
    return True


def refund_star_payment(request: Request) -> bool:
    bot, arguments = request.bot, request.arguments
    charge = bot.till.charges.get(arguments.text("telegram_payment_charge_id"))
    if charge is None or charge.user_id != arguments.integer("user_id"):
        refuse("CHARGE_NOT_FOUND")
    if charge.is_refunded:
        refuse("CHARGE_ALREADY_REFUNDED")
    chat = bot.chats.get(charge.user_id)
    if chat is None:
        raise bad_request("USER_ID_INVALID")
    bot.till.give_back(charge, chat.members[charge.user_id], bot.world.unix())
    facts: Json = {"currency": "XTR", "total_amount": charge.amount, "invoice_payload": charge.payload}
    facts["telegram_payment_charge_id"] = charge.charge_id
    message = request.post(chat, {"refunded_payment": facts})
    bot.emit("message", message.body, f"chat:{chat.chat_id}")
    return True


def get_star_transactions(request: Request) -> Json:
    offset = request.arguments.integer("offset", 0, 0)
    limit = request.arguments.integer("limit", _MAX_TRANSACTIONS, 1, _MAX_TRANSACTIONS)
    return {"transactions": request.bot.till.transactions[offset : offset + limit]}


def get_my_star_balance(request: Request) -> Json:
    return request.bot.till.balance()


def edit_user_star_subscription(request: Request) -> bool:
    charge = request.bot.till.charges.get(request.arguments.text("telegram_payment_charge_id"))
    if charge is None or charge.user_id != request.arguments.integer("user_id"):
        refuse("CHARGE_NOT_FOUND")
    return True


METHODS: dict[str, Handler] = {
    "sendinvoice": send_invoice,
    "createinvoicelink": create_invoice_link,
    "answerprecheckoutquery": answer_pre_checkout_query,
    "refundstarpayment": refund_star_payment,
    "getstartransactions": get_star_transactions,
    "getmystarbalance": get_my_star_balance,
    "edituserstarsubscription": edit_user_star_subscription,
}
