"""A handler that gets a model of pydantic, and one that gets and returns dataclasses."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import Annotated

import pydantic

import pyfaas


class Item(pydantic.BaseModel):
    """One line of an order."""

    name: str
    price: Annotated[Decimal, pydantic.Field(gt=0)]


class Order(pydantic.BaseModel):
    """What the shop sends."""

    items: list[Item]


@dataclasses.dataclass
class Point:
    """A place."""

    x: float
    y: float


def main() -> None:
    with pyfaas.Runtime() as rt:

        @rt.function
        def total(event: Order, context: pyfaas.Context) -> Decimal:
            return sum((item.price for item in event.items), Decimal(0))

        print(total.invoke({"items": [{"name": "pen", "price": "1.10"}, {"name": "ink", "price": 4}]}))
        print(total.invoke(Order(items=[])))
        try:
            total.invoke({"items": [{"name": "pen", "price": 0}, {"price": "cheap"}]})
        except pyfaas.InvalidEvent as error:
            print(error)

        @rt.function
        def centre(event: list[Point], context: pyfaas.Context) -> Point:
            return Point(sum(p.x for p in event) / len(event), sum(p.y for p in event) / len(event))

        print(centre.invoke([Point(0, 0), Point(4, 2)]))
        print(centre.call([{"x": 1, "y": "north"}]).error)


if __name__ == "__main__":
    main()
