"""Synthetic hands: poses, grasps, forearms and what hands hold."""
