// One colour a class, told apart by neighbours: hues a golden angle apart.
export const hue = (number: number) => `hsl(${(152 + number * 137.508) % 360} 75% 45%)`;
export const lineColours = Array.from({ length: 50 }, (_, i) => hue(i * 1.3));
