"""Fact families in English: data and wordings, nothing else.

Refuses facts whose right answer depends on region, taste or opinion: an exam question has one right answer.
"""

from typing import Final

from thaud.nano.facts import UNEXAMINED, Family, parse_facts

_YES_NO_EXAM: Final = (
    "Can {s} {t}?",
    "Is {s} able to {t}?",
    "Yes or no: can {s} {t}?",
    "Do you think {s} can {t}, yes or no?",
)
_YES_NO_ASKED: Final = (
    "Is it true that {s} can {t}?",
    "Is it true or false that {s} can {t}?",
    "Tell me whether {s} can {t}.",
)

ENGLISH: Final = (
    Family(
        name="colour_en",
        language="en",
        exam=("What colour is {s}?", "Name the colour of {s}.", "{S}: which colour?", "Which colour do you paint {s}?"),
        asked=(
            "What colour does {s} have?",
            "What is the colour of {s}?",
            "I want to know the colour of {s}.",
            "Do you remember the colour of {s}?",
        ),
        told=(
            "The colour of {s} is {a}.",
            "{A} is the colour of {s}.",
            "{S} looks {a}.",
            "{A}: that is the colour we see on {s}.",
        ),
        facts=parse_facts(
            {
                0: "snow=white; grass=green",
                1: "coal=black",
                3: "a polar bear=white; a ruby=red; an emerald=green",
                UNEXAMINED: "blood=red; milk=white; the clear sky=blue; an elephant=grey; a ripe banana=yellow; "
                "a crow=black",
            }
        ),
    ),
    Family(
        name="sound_en",
        language="en",
        exam=(
            "What sound does {s} make?",
            "What does {s} say?",
            "{S}: what noise?",
            "Make the noise of {s}.",
        ),
        asked=(
            "What do we hear from {s}?",
            "How does {s} talk?",
            "What is the voice of {s}?",
            "Tell me how {s} sounds.",
        ),
        told=("{S} says {a}.", "{A} is what {s} says.", "{A}, says {s}.", "When it talks, {s} says {a}."),
        facts=parse_facts(
            {
                0: "a dog=woof; a cat=meow; a cow=moo",
                1: "a duck=quack",
                UNEXAMINED: "a sheep=baa; a pig=oink",
            }
        ),
    ),
    Family(
        name="can_en",
        language="en",
        exam=_YES_NO_EXAM,
        asked=_YES_NO_ASKED,
        told=("Yes, {s} can {t}.", "Yes, it is true: {s} can {t}.", "It is true that {s} can {t}."),
        facts=parse_facts(
            {
                0: "a bird|fly=yes",
                UNEXAMINED: "a fish|swim=yes; a plane|fly=yes; a girl|talk=yes; a dog|run=yes; a baby|cry=yes",
            }
        ),
    ),
    Family(
        name="cannot_en",
        language="en",
        exam=_YES_NO_EXAM,
        asked=_YES_NO_ASKED,
        told=("No, {s} cannot {t}.", "No, it is false: {s} cannot {t}.", "It is false, {s} cannot {t}."),
        facts=parse_facts(
            {
                0: "a stone|talk=no",
                UNEXAMINED: "a dog|fly=no; a table|swim=no; a tree|run=no; a chair|cry=no; a stone|fly=no",
            }
        ),
    ),
    Family(
        name="opposite_en",
        language="en",
        exam=(
            "What is the opposite of {s}?",
            "Give the opposite of {s}.",
            "Which word is opposite to {s}?",
            "The reverse of {s}, in one word:",
        ),
        asked=(
            "What word means the contrary of {s}?",
            "What is the contrary of {s}?",
            "Which word goes against {s}?",
            "I want the contrary of {s}.",
        ),
        told=(
            "The contrary of {s} is {a}.",
            "{A} is the contrary of {s}.",
            "{A} and {s} are opposites.",
            "{A}: that word goes against {s}.",
        ),
        facts=parse_facts(
            {
                0: "big=small; hot=cold",
                1: "up=down; open=closed; full=empty",
                3: "happy=sad; long=short; rich=poor; early=late; strong=weak; buy=sell; always=never; first=last",
                UNEXAMINED: "fast=slow; wet=dry; hard=soft; day=night; clean=dirty; easy=difficult",
            }
        ),
    ),
    Family(
        name="use_en",
        language="en",
        exam=("What is {s} for?", "What do you do with {s}?", "Finish: {s} is used to", "Name the use of {s}."),
        asked=(
            "What can we do with {s}?",
            "Why do people need {s}?",
            "How is {s} useful?",
            "Tell me why we have {s}.",
        ),
        told=(
            "We need {s} to {a}.",
            "{A}: that is why we have {s}.",
            "People {a} with {s}.",
            "{A} is what people do with {s}.",
        ),
        facts=parse_facts(
            {
                1: "a bed=sleep; a pen=write; a book=read",
                3: "a broom=sweep; a needle=sew; a shovel=dig; a ruler=measure; a brush=paint",
                UNEXAMINED: "a knife=cut; a chair=sit; a cup=drink; a ball=play",
            }
        ),
    ),
    Family(
        name="kind_en",
        language="en",
        exam=(
            "What kind of thing is {s}?",
            "Which group does {s} belong to?",
            "Classify {s}.",
            "In which group would you put {s}?",
        ),
        asked=("What is {s}?", "What sort of thing is {s}?", "Where do we class {s}?", "Tell me the class of {s}."),
        told=(
            "{S} is a sort of {a}.",
            "{A} is the class of {s}.",
            "{A}: that is the class of {s}.",
            "We call {s} {a}.",
        ),
        facts=parse_facts(
            {
                1: "an apple=fruit; a rose=flower",
                3: "a hammer=tool; a shirt=clothing; a piano=instrument; football=sport; a truck=vehicle; "
                "a table=furniture",
                UNEXAMINED: "a pear=fruit; a daisy=flower; a guitar=instrument; tennis=sport; a sofa=furniture; "
                "a saw=tool",
            }
        ),
    ),
    Family(
        name="count_en",
        language="en",
        exam=(
            "How many {t} does {s} have?",
            "{S}: how many {t}?",
            "Count the {t} of {s}.",
            "Say how many {t} there are in {s}.",
        ),
        asked=(
            "What number of {t} has {s}?",
            "What is the number of {t} in {s}?",
            "I count the {t} in {s}: what number is it?",
        ),
        told=(
            "{S} has {a} {t}.",
            "{A} {t}, that is what {s} has.",
            "{A} is the number of {t} in {s}.",
            "In {s} we count {a} {t}.",
        ),
        facts=parse_facts(
            {
                1: "a dog|legs=four; a week|days=seven; a hand|fingers=five",
                3: "a year|months=twelve; a spider|legs=eight; an hour|minutes=sixty; a square|sides=four; "
                "a triangle|sides=three",
                UNEXAMINED: "a car|wheels=four; an ant|legs=six; a bicycle|wheels=two; a minute|seconds=sixty",
            }
        ),
    ),
    Family(
        name="after_en",
        language="en",
        exam=(
            "What comes after {s}?",
            "What comes next: {s}, then?",
            "After {s}, what is next?",
            "Say what follows {s}.",
        ),
        asked=("What do we have when {s} ends?", "Which one goes behind {s}?", "When {s} is over, what begins?"),
        told=("After {s} comes {a}.", "{A} comes after {s}.", "{A} follows {s}.", "{A} begins when {s} ends."),
        facts=parse_facts(
            {
                1: "Monday=Tuesday; Friday=Saturday",
                3: "Sunday=Monday; Tuesday=Wednesday; Saturday=Sunday; January=February; May=June",
                UNEXAMINED: "Wednesday=Thursday; Thursday=Friday; March=April; April=May; June=July",
            }
        ),
    ),
    Family(
        name="spanish_en",
        language="en",
        exam=(
            "How do you say '{s}' in Spanish?",
            "Translate into Spanish: {s}.",
            "What is the Spanish word for {s}?",
            "In Spanish, what do they call {s}?",
        ),
        asked=(
            "What is {s} in Spanish?",
            "How can I say {s} in Spanish?",
            "Put the word {s} into Spanish.",
            "Which Spanish word means {s}?",
            "What does '{s}' become in Spanish?",
            "{S}: say it in Spanish.",
        ),
        told=(
            "{S} in Spanish is {a}.",
            "{A} is {s} in Spanish.",
            "{A} means {s} in Spanish.",
            "In Spanish we say {a} for {s}.",
        ),
        facts=parse_facts(
            {
                1: "dog=perro; house=casa; water=agua; sun=sol",
                3: "moon=luna; book=libro; bread=pan; door=puerta; friend=amigo; hand=mano; milk=leche; fire=fuego",
                UNEXAMINED: "cat=gato; red=rojo; green=verde; tree=árbol; night=noche; table=mesa",
            }
        ),
    ),
)
