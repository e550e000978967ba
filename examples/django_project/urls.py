"""The project's routes."""

from django.contrib import admin
from django.urls import path

from django_project import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("healthz", views.healthz),
    path("readyz", views.readyz),
    path("classify-complexity", views.classify_complexity),
    path("answer-routed", views.answer_routed),
    path("conversation-turn", views.conversation_turn),
    path("summarize/stream", views.summarize),
]
