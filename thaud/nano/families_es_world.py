"""Fact families in Spanish about words, numbers, sizes, trades and places: data and wordings, nothing else.

Refuses facts whose right answer depends on region, taste or opinion: an exam question has one right answer.
"""

from typing import Final

from thaud.nano.facts import UNEXAMINED, Family, parse_facts

WORLD: Final = (
    Family(
        name="ingles_es",
        language="es",
        exam=(
            "¿Cómo se dice «{s}» en inglés?",
            "Traduce al inglés: {s}.",
            "¿Cuál es la palabra inglesa para {s}?",
            "En inglés, ¿qué nombre tiene {s}?",
        ),
        asked=(
            "¿Qué es {s} en inglés?",
            "¿Cómo digo {s} en inglés?",
            "Pasa la palabra {s} al inglés.",
            "¿Con qué palabra dicen {s} los ingleses?",
            "¿Qué significa «{s}» en inglés?",
            "{S}: dilo en inglés.",
        ),
        told=(
            "{S} en inglés es {a}.",
            "{A} es {s} en inglés.",
            "En inglés decimos {a} por {s}.",
            "{A} es la palabra inglesa de {s}.",
        ),
        facts=parse_facts(
            {
                1: "perro=dog; gato=cat; casa=house; rojo=red",
                3: "luna=moon; libro=book; mesa=table; árbol=tree; pan=bread; flor=flower; puerta=door; "
                "madre=mother; padre=father; amigo=friend; azul=blue; noche=night; caballo=horse; huevo=egg",
                UNEXAMINED: "agua=water; sol=sun; leche=milk; verde=green; pájaro=bird; fuego=fire; mano=hand; "
                "escuela=school",
            }
        ),
    ),
    Family(
        name="numero_es",
        language="es",
        exam=(
            "¿Cómo se escribe {s} con letras?",
            "Escribe {s} en palabras.",
            "¿Qué palabra nombra el número {s}?",
            "Lee este número: {s}.",
        ),
        asked=(
            "¿Cómo se llama el número {s}?",
            "¿Qué número es {s}?",
            "Dime el nombre de {s}.",
            "¿Cómo leemos {s}?",
            "¿Con qué palabra decimos {s}?",
        ),
        told=("El número {s} es el {a}.", "{A} es el número {s}.", "{A} es el nombre de {s}.", "Leemos {s} así: {a}."),
        facts=parse_facts(
            {
                1: "3=tres; 7=siete",
                3: "12=doce; 15=quince; 20=veinte",
                UNEXAMINED: "1=uno; 2=dos; 4=cuatro; 5=cinco; 6=seis; 8=ocho; 9=nueve; 10=diez; 11=once; 13=trece; "
                "14=catorce",
            }
        ),
        weight=0.7,
    ),
    Family(
        name="suma_es",
        language="es",
        exam=(
            "¿Cuánto es {s} más {t}?",
            "Suma {s} y {t}.",
            "Si tengo {s} y me dan {t}, ¿cuánto tengo?",
            "Junta {s} con {t}: ¿qué número da?",
        ),
        asked=(
            "¿Cuántos son {s} más {t}?",
            "Calcula {s} más {t}.",
            "¿Qué resultado da {s} más {t}?",
            "¿Cuál es la suma de {s} y {t}?",
            "{s} y {t}, ¿cuánto suman?",
        ),
        told=("{s} más {t} son {a}.", "{a} es la suma de {s} y {t}.", "{a} es igual a {s} más {t}."),
        facts=parse_facts(
            {
                1: "1|1=2; 2|2=4",
                3: "2|3=5; 3|3=6; 4|1=5; 5|2=7; 4|4=8; 5|5=10; 3|1=4",
                UNEXAMINED: "1|2=3; 2|1=3; 1|3=4; 1|4=5; 3|2=5; 1|5=6; 5|1=6; 2|4=6; 4|2=6; 2|5=7; 3|4=7; 4|3=7; "
                "6|1=7; 3|5=8; 5|3=8; 6|2=8; 4|5=9; 5|4=9; 6|3=9",
            }
        ),
        weight=0.6,
    ),
    Family(
        name="mayor_es",
        language="es",
        exam=(
            "¿Qué es más grande, {s} o {t}?",
            "Entre {s} y {t}, ¿cuál es más grande?",
            "Elige lo más grande: {s} o {t}.",
            "¿Cuál gana en tamaño, {s} o {t}?",
        ),
        asked=(
            "¿Quién es mayor, {s} o {t}?",
            "¿Qué tiene más tamaño, {t} o {s}?",
            "De {t} y {s}, ¿cuál es el mayor?",
            "De {s} y {t}, ¿cuál es el mayor?",
        ),
        told=(
            "{A} es más grande que {u}.",
            "{A} gana a {u} en tamaño.",
            "Más grande que {u} es {a}.",
            "{A} es mayor que {u}.",
        ),
        facts=parse_facts(
            {
                1: "el ratón|el elefante|el ratón=el elefante; la montaña|la piedra|la piedra=la montaña",
                3: "el Sol|la Tierra|la Tierra=el Sol; la hormiga|el perro|la hormiga=el perro; "
                "la uva|la sandía|la uva=la sandía; el mar|el lago|el lago=el mar; "
                "la ciudad|la aldea|la aldea=la ciudad; la moto|el autobús|la moto=el autobús",
                UNEXAMINED: "el caballo|el gato|el gato=el caballo; la Luna|la Tierra|la Luna=la Tierra; "
                "el avión|la bicicleta|la bicicleta=el avión; la mosca|el águila|la mosca=el águila",
            }
        ),
    ),
    Family(
        name="oficio_es",
        language="es",
        exam=(
            "¿Quién {s}?",
            "¿Qué persona {s}?",
            "¿Cómo llamas a alguien que {s}?",
            "Dime el oficio del que {s}.",
        ),
        asked=(
            "¿Quién es la persona que {s}?",
            "¿Qué trabajador {s}?",
            "¿Cómo se llama el trabajador que {s}?",
            "Busco a la persona que {s}.",
        ),
        told=(
            "{A} {s}.",
            "{A} es la persona que {s}.",
            "La persona que {s} es {a}.",
            "{A}, ese es el trabajador que {s}.",
        ),
        facts=parse_facts(
            {
                1: "apaga incendios=el bombero; cura a los enfermos=el médico; hace el pan=el panadero",
                3: "cuida los dientes=el dentista; pilota aviones=el piloto; pinta cuadros=el pintor; "
                "reparte las cartas=el cartero; construye casas=el albañil; cultiva el campo=el agricultor; "
                "arregla los coches=el mecánico; vende carne=el carnicero; viaja al espacio=el astronauta",
                UNEXAMINED: "corta el pelo=el peluquero; enseña en la escuela=el maestro; "
                "cura a los animales=el veterinario; conduce un taxi=el taxista; pesca en el mar=el pescador",
            }
        ),
    ),
    Family(
        name="lugar_es",
        language="es",
        exam=(
            "¿Dónde se puede {s}?",
            "¿A qué sitio voy para {s}?",
            "Quiero {s}: ¿adónde voy?",
            "Nombra el lugar para {s}.",
        ),
        asked=(
            "¿Dónde podemos {s}?",
            "¿Qué lugar es bueno para {s}?",
            "¿Adónde vamos a {s}?",
            "¿En qué sitio solemos {s}?",
        ),
        told=(
            "Para {s} vamos a {a}.",
            "{A} es el lugar donde podemos {s}.",
            "En {a} podemos {s}.",
            "{A}: allí podemos {s}.",
        ),
        facts=parse_facts(
            {
                1: "comprar pan=la panadería; ver una película=el cine",
                3: "comprar medicinas=la farmacia; comprar pescado=la pescadería; comprar fruta=la frutería; "
                "comprar carne=la carnicería; comprar zapatos=la zapatería; subir al avión=el aeropuerto; "
                "operar a un enfermo=el hospital; guardar el coche=el garaje",
                UNEXAMINED: "comprar un libro=la librería; comprar flores=la floristería; aprender a leer=la escuela",
            }
        ),
    ),
    Family(
        name="cual_es",
        language="es",
        exam=("¿Cuál es {s}?", "Adivina: {s}.", "¿Qué nombre tiene {s}?", "Di qué o quién es {s}."),
        asked=(
            "¿Cómo se llama {s}?",
            "Busco esto: {s}. ¿Qué es?",
            "Hablemos de {s}. ¿De qué se trata?",
            "Cuéntame cómo se llama {s}.",
        ),
        told=("{A} es {s}.", "Sabemos que {s} es {a}.", "{A}: así se llama {s}.", "Se trata de {a}, {s}."),
        facts=parse_facts(
            {
                1: "nuestro planeta=la Tierra",
                3: "el animal más alto=la jirafa; el animal terrestre más rápido=el guepardo; "
                "el animal más grande=la ballena azul; el planeta más grande=Júpiter; "
                "el océano más grande=el Pacífico; la montaña más alta=el Everest; el país más grande=Rusia; "
                "el planeta rojo=Marte; el mes más corto=febrero; el primer mes del año=enero; "
                "el último mes del año=diciembre",
                UNEXAMINED: "la estrella que nos da luz=el Sol; el mamífero que vuela=el murciélago; "
                "el planeta más cercano al Sol=Mercurio",
            }
        ),
    ),
)
